# Servers the tests run on loopback, outside .venv: ministack pins a botocore of its own.
MINISTACK_VERSION := 1.5.33
MINISTACK_STAMP := .tools/ministack/.installed-$(MINISTACK_VERSION)

.PHONY: tools
tools: $(MINISTACK_STAMP)

$(MINISTACK_STAMP):
	rm -rf .tools/ministack
	python3 -m venv .tools/ministack
	.tools/ministack/bin/python -m pip install --quiet --disable-pip-version-check "ministack==$(MINISTACK_VERSION)"
	touch $@
