# The two commands: `make demo` and `make test`. Each sets up first what is missing; `make help` lists the rest.
PYTHON_BIN := .venv/bin/python

.DEFAULT_GOAL := help
.PHONY: help setup demo test redteam fuzz model lint bench walk soak check-chain states access lock clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' Makefile

setup:  ## install what is missing (virtual environment, SoftHSM, anvil); repeating it is cheap
	@scripts/setup

demo: setup  ## the whole path on real processes, ending in a table; KEEP=1 leaves the stack running
	@$(PYTHON_BIN) -m cli.main demo $(if $(KEEP),--keep)

test:  ## every test but those that lint runs (tests/architecture); ARGS is passed to pytest
	@scripts/setup --browser --broker
	@$(PYTHON_BIN) -m pytest -n 3 --dist loadfile --no-loadscope-reorder --ignore tests/architecture $(ARGS)

redteam: setup  ## attack the signer with everything but its process and its HSM, and print what each attack met
	@$(PYTHON_BIN) -m pytest -q tests/redteam $(ARGS)

fuzz: setup  ## throw wild requests at the API for longer than the tests do; SEED= repeats a run
	@CUSTODY_FUZZ_EXAMPLES=$(or $(EXAMPLES),100) CUSTODY_FUZZ_IDS=10000 CUSTODY_FUZZ_SEED=$(or $(SEED),0) \
	  $(PYTHON_BIN) -m pytest -q --timeout 3600 tests/integration/test_api_schemathesis.py tests/integration/test_api_fuzz.py \
	  tests/integration/test_api_conventions.py $(ARGS)

model:  ## check the model of a withdrawal with spin (a few minutes), and that broken rules are noticed
	@scripts/setup --model
	@scripts/model $(HEIGHTS)

lint: setup  ## style, types, import contracts, our own rules, migrations and the published API description
	@scripts/lint

bench: setup  ## every bench; each prints a table and writes build/bench/NAME.json
	@for file in bench/bench_*.py; do echo "== $$file"; $(PYTHON_BIN) -m "bench.$$(basename $$file .py)" || exit 1; done

walk: setup  ## random walks on a real EVM node, longer than in the tests; SEED= and WALKS= choose them
	@CUSTODY_EVM_SEED=$(or $(SEED),1000) CUSTODY_EVM_WALKS=$(or $(WALKS),10) CUSTODY_EVM_STEPS=$(or $(STEPS),80) \
	  $(PYTHON_BIN) -m pytest -q -s tests/property/test_ingestion_evm_walk.py -k quiet_point $(ARGS)

soak: setup  ## ten minutes of chaos on the whole stack; SECONDS= and SEED= choose (docs/soak.md)
	@$(PYTHON_BIN) -m tests.soak.main --seconds $(or $(SECONDS),600) $(if $(SEED),--seed $(SEED)) $(ARGS)

check-chain: setup  ## hold books against both chains with no code of the product; after `make demo KEEP=1`
	@$(PYTHON_BIN) -m devnet.checker.main $(ARGS)

bench-%: setup
	@$(PYTHON_BIN) -m bench.bench_$* $(ARGS)

states: setup  ## draw docs/states.md again from the transition tables
	@$(PYTHON_BIN) -m scripts.draw_states

access: setup  ## write the table of who may do what (tests/golden/access_matrix.txt) anew, to be reviewed
	@CUSTODY_WRITE_ACCESS=1 $(PYTHON_BIN) -m pytest -q tests/integration/test_api_access.py -k table

lock:  ## resolve the requirement lock files again
	@scripts/lock

clean:  ## remove the stack's state and what was built, not what was installed
	@rm -rf var build/bench build/lint .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
