# make demo: install and run the whole way on the embedded corpus.  make test: install and run the tests.

PYTHON ?= python3
PIP_FLAGS ?= --quiet --disable-pip-version-check
BIN := .venv/bin
RUN ?= demo

.PHONY: demo test lint install clean

install: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: loam needs Python 3.11 or newer; name one with 'make PYTHON=python3.12'" >&2; exit 2; }
	@echo "installing into .venv (once; about two minutes and 2.5 GB, a few more with a CUDA build of torch)"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install $(PIP_FLAGS) -c constraints.txt -e '.[dev]'
	@touch $@

demo: install
	$(BIN)/python data/prepare.py --run $(RUN)
	$(BIN)/python tokenizer/train.py --run $(RUN)
	$(BIN)/torchrun --standalone train.py --run-name $(RUN) --epochs 3
	$(BIN)/python eval/compare.py ckpt1 ckpt3 --run $(RUN)
	$(BIN)/python chat.py ckpt3 --run $(RUN) --question 'What does `os.path.join` do?'
	@echo
	@echo "done. Open these:"
	@echo "  runs/$(RUN)/compare-ckpt1-ckpt3.html   the comparison, with curves and answers"
	@echo "  runs/$(RUN)/metrics.jsonl              every step and epoch"
	@echo "  runs/$(RUN)/corpus/manifest.json       what became of each row"
	@echo "  runs/$(RUN)/ckpt3/                     the model: transformers opens this folder"

test: install
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy .

clean:
	rm -rf .venv build *.egg-info
