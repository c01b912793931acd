# Each target is one line of what it runs. CARGO_TARGET_DIR, DIST and PROFILE are respected.
.PHONY: demo test chaos bench dist lint

demo: dist ; tests/demo
test: ; tests/run
chaos: dist ; REX_DIST="$$(realpath "$${DIST:-dist}")" CHAOS_SEED="$(SEED)" CHAOS_SECONDS="$(or $(SECONDS),60)" cargo test --package rex-tests --test chaos -- --nocapture --test-threads 1
bench: dist ; REX_DIST="$$(realpath "$${DIST:-dist}")" cargo bench --workspace --bench "*"
dist: ; tests/dist
lint: ; cargo fmt --all --check && cargo clippy --workspace --all-targets -- -D warnings && RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items
