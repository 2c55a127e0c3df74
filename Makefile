# Everyday commands. `make help` lists them.
.DEFAULT_GOAL := help
.PHONY: help check test test-binary test-deploy test-command-line lint dist dist-verify package browser verify verify-paths send-test simulate demo watch invoke docs sigma-export sigma-check bench bench-compare scale fuzz mutants deny venv deploy-tools clean

VENV := .venv
BIN := $(VENV)/bin
EVENT ?= events/s3-put.json
SECONDS_EACH ?= 600
SUMS ?= dist/SHA256SUMS
STACK ?= billing-watch
SCHEDULES ?= 2000
SEED ?= 0
# The modules of tests/it that run the binary beside moto.
PEER_TESTS := end_to_end:: wire::
# What `make bench` runs beside the function.
BENCH_PROGRAMS := bench-peer bench-folder
MUTANTS := cargo mutants --no-shuffle --baseline skip --timeout 40 --no-default-features --test-tool nextest
export CARGO_TERM_COLOR ?= auto
export SAM_CLI_TELEMETRY := 0

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

check: ## Run the quick checks: format, lints, and the tests that start no other program
	cargo fmt --check
	cargo clippy --locked --features cli --all-targets -- -D warnings
	cargo test --locked --features cli --lib --test it -- $(addprefix --skip ,$(PEER_TESTS))

test: ## Run everything that CI runs: `make check`, then the binary, template, rules, documents and spelling
	@$(MAKE) --jobs=2 --output-sync=recurse check venv deploy-tools browser
	@$(MAKE) --jobs=2 --output-sync=recurse test-binary test-deploy
	@$(MAKE) test-command-line
	@$(MAKE) lint

# The real binary, with moto in AWS's place.
test-binary: venv
	cargo test --locked --features cli --bins --benches --examples
	cargo test --locked --features cli --test it -- $(PEER_TESTS)

# The templates and their scripts, with LocalStack in AWS's place.
test-deploy: venv deploy-tools
	cargo build --quiet --locked --features cli --bins
	$(BIN)/python -m pytest -q tests/deploy

# The command line, with moto in the place of S3, and the report in a browser.
test-command-line: venv browser
	cargo build --quiet --locked --features cli --bins
	$(BIN)/python -m pytest -q tests/command_line

# What neither `check` nor a test looks at.
lint: venv
	cargo clippy --locked --no-default-features --lib -- -D warnings
	cargo clippy --locked --bin billing-watch-function -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --features cli --no-deps --lib --bins --examples
	cargo test --locked --doc
	@$(MAKE) sigma-check RULES=rules/filters
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/zizmor --offline --quiet .github/workflows
	$(BIN)/typos

dist: .venv-dist/.made ## Build what a release holds, into dist/: the function as a zip, templates, checksums
	.venv-dist/bin/python scripts/dist

dist-verify: .venv-dist/.made ## Build the commit again in another folder, and compare with SUMS=dist/SHA256SUMS
	.venv-dist/bin/python scripts/dist/rebuild.py $(SUMS)

package: dist venv deploy-tools .venv-awscli/.made ## Run what `make dist` built under AWS's Runtime Interface Emulator, and deploy it into LocalStack
	$(BIN)/python -m pytest -q tests/deploy/check_package.py

send-test: ## Send a test alert to every topic of the deployed stack STACK=billing-watch
	aws lambda invoke --function-name $(STACK) --cli-binary-format raw-in-base64-out --payload '{"action": "self-test"}' /dev/stdout

verify-paths: venv ## Check whether the fast path and the log files of STACK=billing-watch give an event the same id
	@$(BIN)/python scripts/verify_paths.py $(STACK)

verify: venv ## Check the deployed stack STACK=billing-watch against what AWS says of it
	@$(BIN)/python scripts/verify.py $(STACK)

simulate: ## Run SCHEDULES fault schedules, from seed SEED on; print the seed of a failing one
	SCHEDULES=$(SCHEDULES) SEED=$(SEED) cargo test --release --locked --no-default-features --test it \
		simulation::nothing_is_lost -- --nocapture

demo: venv ## Turn example log files into alerts on this machine: S3, SNS, SQS and Lambda on loopback
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python scripts/demo.py

watch: venv ## Run the function on this machine, with a local S3, SNS and SQS (moto), until Ctrl-C
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python scripts/demo.py --watch

invoke: venv ## Send the event EVENT=events/….json to a running `make watch`
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python scripts/demo.py --invoke $(EVENT)

docs: ## Generate docs/rules.md from rules/
	cargo run --quiet --locked --example rules-reference > docs/rules.md.new
	mv docs/rules.md.new docs/rules.md
	cargo run --quiet --locked --example rules-reference candidates > rules/candidates.tsv.new
	mv rules/candidates.tsv.new rules/candidates.tsv
	cargo run --quiet --locked --example rules-reference checksums > rules/SHA256SUMS.new
	mv rules/SHA256SUMS.new rules/SHA256SUMS

sigma-export: venv ## Write the rules for SigmaHQ, and as searches for Splunk, Elastic and SQLite, into target/sigma
	$(BIN)/python scripts/sigma_export.py target/sigma

# These validators want data that they download.
NOT_CHECKED := d3_fendtag sigmahq_category_event_id sigmahq_category_windows_provider_name sigmahq_fieldname_cast \
	sigmahq_filename_prefix sigmahq_invalid_fieldname sigmahq_logsource_unknown sigmahq_redundant_field

# What `sigma check` says of rules, with SigmaHQ's own validators.
sigma-check: venv
	$(BIN)/python scripts/sigma_check.py --fail-on-issues $(addprefix --exclude ,$(NOT_CHECKED)) $(RULES)

bench: .venv-bench/.made venv ## Measure what docs/performance.md shows, and write its tables; ONLY=scan,folder,s3,delivery,batches,ledger,memory
	cargo build --locked --release --bin billing-watch-function
	cargo build --locked --release --features cli --bin billing-watch
	cargo build --locked --release $(addprefix --example ,$(BENCH_PROGRAMS))
	cargo bench --locked --no-run --bench scan
	.venv-bench/bin/python scripts/bench $(ONLY)

bench-compare: .venv-bench/.made ## Compare instruction counts with the commit BASE; fails if one is larger by more than 1%
	cargo build --locked --release --example bench-peer
	.venv-bench/bin/python scripts/bench/compare.py $(or $(BASE),$(error BASE is missing: make bench-compare BASE=COMMIT))

scale: .venv-scale/.made ## Simulate 1, 1,000 and 50,000 accounts; write the tables of docs/scale.md and draw its picture
	.venv-scale/bin/python scripts/scale.py --write
	.venv-scale/bin/python scripts/scale_picture.py

fuzz: ## Fuzz each target for SECONDS_EACH seconds; needs nightly Rust and cargo-fuzz
	cd fuzz && for target in envelope scan alert; do \
		cargo +nightly fuzz run $$target -- -max_total_time=$(SECONDS_EACH) -rss_limit_mb=4096 -print_final_stats=1 || exit 1; \
	done

mutants: ## Change ledger, pipeline and scan bit by bit, and list the changes that no test notices; takes hours; needs cargo-mutants and cargo-nextest
	PROPTEST_CASES=100 $(MUTANTS) --output target/mutants-scan \
		--file 'src/cloudtrail/{scan,probe,splitter,captured,inflate}.rs' \
		-- --test it --max-fail 1:immediate -E 'test(/^(scan|scan_edges|bad_input|pipeline)::/)'
	SCHEDULES=200 $(MUTANTS) --output target/mutants-pipeline \
		--file 'src/ledger/*.rs' --file 'src/pipeline/*.rs' \
		-- --lib --test it --max-fail 1:immediate -E 'test(/^(ledger|claims|pipeline|deadline|simulation::nothing)/)'

deny: ## Check licences, sources and bans of dependencies, and advisories if their database is reachable; needs cargo-deny
	cargo deny --locked check bans licenses sources
	cargo deny --locked check advisories || echo "advisories not checked: is their database reachable?"

browser: ## Install Chromium and its driver where CI is set; without them the tests of the report are skipped
	@command -v chromedriver > /dev/null || if [ -n "$$CI" ]; then \
		apt-get update -qq && apt-get install -qq --yes --no-install-recommends chromium chromium-driver; \
	else echo "the tests of the report need: apt-get install chromium chromium-driver"; fi

venv: $(VENV)/.made ## Install pinned tools from PyPI into .venv

deploy-tools: .venv-sam/.made .venv-checkov/.made .venv-localstack/.made .venv-dist/.made ## Install pinned sam, checkov, LocalStack and what `make dist` needs from PyPI, each into a .venv-… of its own

# They want different versions of the same libraries.
.venv-%/.made: requirements/%.txt
	python3 -m venv .venv-$*
	.venv-$*/bin/pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

$(VENV)/.made: requirements/dev.txt
	python3 -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

clean: ## Remove what was built, and the .venv directories
	cargo clean
	rm -rf dist .venv .venv-*
