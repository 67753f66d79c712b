# `continuum` for every shell of this user, apart from the checkout; and the versions that all targets install.

.PHONY: install uninstall constraints

PREFIX ?= $(shell [ "$$(id -u)" = 0 ] && echo /usr/local || echo "$$HOME/.local")
INSTALLED := $(PREFIX)/lib/continuum-backup

install: ## Put the command on PATH: PREFIX/bin, /usr/local for root, else ~/.local
	@$(PYTHON) -m venv "$(INSTALLED)"
	@"$(INSTALLED)/bin/python" -m pip --quiet --disable-pip-version-check install --upgrade $(PINNED) '.[flower,embedded]'
	@mkdir -p "$(PREFIX)/bin"
	@ln -sfn "$(INSTALLED)/bin/continuum" "$(PREFIX)/bin/continuum"
	@"$(PREFIX)/bin/continuum" --version
	@case ":$$PATH:" in *":$(PREFIX)/bin:"*) ;; *) echo "add it to PATH: export PATH=$(PREFIX)/bin:\$$PATH" ;; esac

uninstall: ## Take out what make install put there; configuration, keys and backups stay
	@rm -rf "$(INSTALLED)" "$(PREFIX)/bin/continuum"

constraints: ## Renew constraints.txt: the newest versions that pyproject.toml allows
	@scratch=$$(mktemp -d) && trap 'rm -rf "$$scratch"' EXIT && \
	$(PYTHON) -m venv "$$scratch" && \
	"$$scratch/bin/python" -m pip install --quiet --disable-pip-version-check '.[flower,embedded,test,check]' && \
	{ echo '# The versions that make installs, of everything incl. tests and checks. Renew: make constraints'; \
	  "$$scratch/bin/python" -m pip freeze --all --exclude pip --exclude continuum-backup; } > "$$scratch/constraints.txt" && \
	mv "$$scratch/constraints.txt" constraints.txt
