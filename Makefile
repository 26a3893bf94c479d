# `make demo` shows the whole engine at work, `make test` tests it; both make their own environment first.
PYTHON ?= python3
BIN := .venv/bin
export HF_HUB_OFFLINE ?= 1
# bytecode is kept when a module is first loaded, not made for all that pip installs
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check audit soak ui clean

demo: .venv/installed
	RAM_ENGINE_EXIT_WITH_PARENT=1 $(BIN)/ram-engine run --preset sample --store runs/sample

ui: .venv/installed
	RAM_ENGINE_EXIT_WITH_PARENT=1 $(BIN)/ram-engine ui --preset sample --store runs/sample

test: .venv/installed-dev
	$(BIN)/python -m pytest -m "not soak" -n 2 --dist loadfile

soak: .venv/installed-dev
	$(BIN)/python -m pytest -m soak

check: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m tests.audit || test $$? = 2  # where advisories cannot be reached it says so, and no more

audit: .venv/installed-dev
	$(BIN)/python -m tests.audit

clean:
	rm -rf .venv runs build dist *.egg-info

.venv/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt -e '.[sample]'
	touch $@

.venv/installed-dev: .venv/installed
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt -e '.[sample,dev,onnx,openvino,ray]'
	touch $@
