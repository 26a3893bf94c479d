"""Ridge regression in closed form: against the plain formula, and against regressions that really lack an image."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

from tasks.training import ridge
from tasks.training.data import Examples, TokenImages
from tasks.training.ids import ImageIds
from tasks.training.whitening import Whitening

IMAGES, WIDTH, TAGS = 60, 8, 5


def world(folder: Path, count: int = IMAGES, width: int = WIDTH) -> Examples:
    """Images whose mean tokens say something about their tags."""
    chance = np.random.default_rng(0)
    tokens = chance.normal(size=(count, 1, width)).astype(np.float16)
    tokens.tofile(folder / "tokens")
    logits = tokens[:, 0].astype(float) @ chance.normal(size=(width, TAGS)) - 1
    named = chance.random(logits.shape) < 1 / (1 + np.exp(-logits))
    images = TokenImages(folder / "tokens", tokens.shape, np.arange(count), np.ones(count, np.int64))
    ids = np.random.default_rng(1).integers(0, 2**64, count, np.uint64)
    return Examples(ImageIds(ids), images, csr_matrix(named.astype(np.float32)))


def queries() -> torch.Tensor:
    return torch.randn(TAGS, 6, generator=torch.Generator().manual_seed(1))


def tokens_of(examples: Examples) -> torch.Tensor:
    (tokens,) = examples.images.whole([np.arange(len(examples.image_ids))])
    return tokens[:, 0].double()


def test_the_solution_is_that_of_the_whole_linear_system(tmp_path: Path) -> None:
    examples = world(tmp_path)
    solved = ridge.solve(examples, queries())
    x = tokens_of(examples)
    x = x - x.mean(0)
    y = ridge.standardised(torch.from_numpy(examples.targets.toarray()).double(), solved.ridge.frequencies.double())
    penalty = float((x.T @ x).trace() / WIDTH) * ridge.PENALTIES[int(np.argmin(solved.errors))]
    # vec(W) = (K (x) X'X + penalty I)^-1 (K (x) I) vec(X'Y), column by column
    alike = ridge.covariance(queries().double())
    system = torch.kron(alike, x.T @ x) + penalty * torch.eye(WIDTH * TAGS).double()
    weights = torch.linalg.solve(system, (x.T @ y @ alike).T.reshape(-1)).reshape(TAGS, WIDTH).T
    found = solved.ridge.axes @ solved.ridge.coefficients @ solved.ridge.mixing.T
    torch.testing.assert_close(found.double(), weights, rtol=1e-3, atol=1e-4)


def test_an_image_that_is_left_out_might_as_well_not_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = world(tmp_path)
    solved = ridge.solve(examples, queries()).ridge
    named = torch.from_numpy(examples.targets.toarray())
    out, elsewhere = 7, 11  # the answers about image 7 and about another picture, without image 7
    tokens = tokens_of(examples).float()
    asked, own = tokens[[out, elsewhere]], tokens[[out, out]]
    answer = asked @ solved.weight.T + solved.bias + solved.left_out(asked, own, named[[out, out]])
    # solved again without it, in the same units and at the same penalty
    x = tokens.double() - solved.mean.double()
    y = ridge.standardised(named.double(), solved.frequencies.double())
    variances = (solved.mixing.T @ ridge.covariance(queries()) @ solved.mixing).diag().double().clamp(min=1e-9)
    values = (x @ solved.axes.double()).square().sum(0)
    penalty = float((variances / solved.shares.double()[-1] - values[-1] * variances).median())
    rest = np.delete(np.arange(IMAGES), out)
    alike = solved.mixing.double() @ variances.diag() @ solved.mixing.T.double()
    of_rest, named_rest = x[rest].mean(0), y[rest].mean(0)
    x, y = x - of_rest, y - named_rest
    system = torch.kron(alike, x[rest].T @ x[rest]) + penalty * torch.eye(WIDTH * TAGS).double()
    weights = torch.linalg.solve(system, (x[rest].T @ y[rest] @ alike).T.reshape(-1)).reshape(TAGS, WIDTH).T
    scores = (asked.double() - solved.mean - of_rest) @ weights + named_rest
    expected = scores * solved.gains + solved.frequencies.logit() + solved.intercept
    torch.testing.assert_close(answer.double(), expected, rtol=1e-3, atol=2e-3)
    assert (solved.left_out(asked, own, named[[out, out]])[0].abs() > 0.05).any()


def test_answers_about_its_own_images_are_those_that_leave_them_out(tmp_path: Path) -> None:
    examples = world(tmp_path)
    solution = ridge.solve(examples, queries())
    tokens, named = tokens_of(examples).float(), torch.from_numpy(examples.targets.toarray())
    solved = solution.ridge
    answers = tokens @ solved.weight.T + solved.bias + solved.left_out(tokens, tokens, named)
    np.testing.assert_allclose(answers[solution.rows].numpy(), solution.logits, rtol=1e-3, atol=2e-3)
    assert min(solution.errors) < 0.9  # it has learnt something
    unlearnable = replace(examples, targets=examples.targets[np.random.default_rng(1).permutation(IMAGES)])
    assert min(ridge.solve(unlearnable, queries()).errors) > 0.95


def test_few_images_tell_nothing_of_themselves(tmp_path: Path) -> None:
    """Fewer than their tokens have channels: any tags can be learnt, and an image is all of the others' remainder."""
    examples = world(tmp_path, 12, 40)
    chance = np.random.default_rng(2)
    for _ in range(3):
        shuffled = replace(examples, targets=examples.targets[chance.permutation(12)])
        solution = ridge.solve(shuffled, queries())
        named = shuffled.targets.toarray() > 0
        assert min(solution.errors) > 0.9
        columns = zip(solution.logits.T, named.T, strict=True)
        apart = [logits[there].mean() - logits[~there].mean() for logits, there in columns]
        assert max(apart) < 1


def test_whitened_and_plain_tokens_get_the_same_answers(tmp_path: Path) -> None:
    examples = world(tmp_path)
    solved = ridge.solve(examples, queries()).ridge
    tokens, named = tokens_of(examples).float(), torch.from_numpy(examples.targets.toarray())
    for whitening in (Whitening.scaling(tokens + 3), Whitening.components(tokens * 2 + 1, WIDTH)):
        plain = solved.of_plain(whitening)
        seen = whitening(tokens)
        torch.testing.assert_close(
            tokens @ plain.weight.T + plain.bias, seen @ solved.weight.T + solved.bias, rtol=1e-3, atol=1e-3
        )
        torch.testing.assert_close(
            plain.left_out(tokens, tokens, named), solved.left_out(seen, seen, named), rtol=1e-3, atol=1e-3
        )


def test_it_is_kept_as_it_was(tmp_path: Path) -> None:
    solved = ridge.solve(world(tmp_path), queries()).ridge
    solved.save(tmp_path)
    again = ridge.Ridge.load(tmp_path, torch.device("cpu"))
    assert again is not None
    assert all(torch.equal(getattr(again, each.name), getattr(solved, each.name)) for each in fields(solved))
    assert ridge.Ridge.load(tmp_path / "elsewhere", torch.device("cpu")) is None
