"""A store on S3: moto's server speaks the API on loopback, and refuses a PUT now and then."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from storage import garbage, leases
from storage.store import Store
from tests.storage.test_store import caption_tags

moto_server = pytest.importorskip("moto.server", reason="moto is not installed: no test of an object store")
pytest.importorskip("s3fs", reason="s3fs is not installed: no test of an object store")
REFUSED = 9  # every so many PUTs one is answered with 503


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """An empty bucket; its requests go to a server of this process."""
    import boto3
    from werkzeug.serving import make_server

    application = moto_server.DomainDispatcherApplication(moto_server.create_backend_app)
    server = make_server("127.0.0.1", 0, refusing(application), threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        boto3.client("s3").create_bucket(Bucket="bucket")
        yield "s3://bucket"
    server.shutdown()


def refusing(application: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    """``application``, too busy for some PUTs."""
    count = itertools.count(1)

    def answer(environment: dict[str, Any], respond: Callable[..., Any]) -> Iterable[bytes]:
        if (
            environment["REQUEST_METHOD"] == "PUT"
            and "/bucket/" in environment["PATH_INFO"]
            and not next(count) % REFUSED
        ):
            environment["wsgi.input"].read(int(environment.get("CONTENT_LENGTH") or 0))
            respond("503 Slow Down", [("Content-Type", "application/xml")])
            return [b"<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"]
        return application(environment, respond)

    return answer


def test_of_two_writers_the_first_one_stays(bucket: str) -> None:
    store = Store(f"{bucket}/writers")
    first = store.write_part("caption_tags", "k", "p", caption_tags(("a", 0, [1])))
    assert store.write_part("caption_tags", "k", "p", caption_tags(("a", 0, [2]))) == first
    assert store.read_part("caption_tags", first)["tag_ids"].to_pylist() == [[1]]
    assert store.parts_present("caption_tags") == {"k"}


def test_leases_are_seen_by_others(bucket: str) -> None:
    store = Store(f"{bucket}/leases")
    with leases.leased(store, "judge"):
        assert [lease.who for lease in leases.living(Store(f"{bucket}/leases"))] == ["judge"]
    assert leases.living(store) == []


def test_stages_leave_the_same_on_s3(bucket: str, finished_store: Path) -> None:
    from flows.stages import assign_tags, audit, calibrate, fit_clusters, generate, ground, judge, parse_captions
    from ram_engine.configuration import configure

    url = f"{bucket}/tiny"
    remote, local = Store(url), Store(finished_store)
    for artifact in (
        "pairs",
        "images",
        "features",
        "baseline",
        "label_system",
    ):  # what takes long, and what comes from elsewhere
        remote.fs.put(f"{local.root}/{artifact}", f"{remote.root}/", recursive=True)
    settings, executor = configure("tiny")
    parse_captions(url, settings.parse_captions, executor=executor)
    assign_tags(url, settings.assign_tags, executor=executor)
    calibrate(url, settings.calibrate, executor=executor)
    generate(url, settings.generate, executor=executor)
    ground(url, settings.ground, executor=executor)
    fit_clusters(url, settings.fit_clusters, executor=executor)
    audit(url, settings.judge, executor=executor)
    judge(url, settings.judge, executor=executor)
    for artifact in ("phrases", "caption_tags", "tag_bars", "generated", "regions", "clusters", "tag_verdicts"):
        there, here = remote.snapshot(artifact), local.snapshot(artifact)
        assert there is not None
        assert here is not None
        assert there.digest == here.digest, artifact
    assert judge(url, settings.judge, executor=executor)["kept"]
    assert "regions" in remote.fs.cat_file(f"{remote.root}/report.html").decode()
    with leases.collecting(remote) as collection:
        assert garbage.find(remote, 1, collection.others) == []
