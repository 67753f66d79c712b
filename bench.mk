# The programs that benchmarks compare with, from nothing, under .tools/peers. One that cannot be had is left out, with a reason.
PEERS_STAMP := .tools/peers/.installed-1

.PHONY: peers
bench: peers
peers: $(PEERS_STAMP)

$(PEERS_STAMP): benchmarks/install.py $(READY)
	@$(BIN)/python -m benchmarks.install && touch $@ || echo "benchmarks go on without what is missing; the next make tries again"
