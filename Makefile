# The commands of this repository; each is a script that can be called by itself.
.DEFAULT_GOAL := help
.PHONY: help run demo cluster chaos stop test lint coverage bench clean check

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1 : /p' Makefile | awk -F ' : ' '{ printf "%-16s %s\n", $$1, $$2 }'

run: ## build, start a host, run a workflow through kill -9, leave the host up
	@scripts/run

demo: ## the same on a data directory of its own, and away again
	@scripts/demo

cluster: ## a private PostgreSQL and NATS, two hosts, a worker, a thousand orders, one host killed, the account
	@scripts/cluster

chaos: ## everything that goes wrong, for half an hour, over two hosts, two workers and servers of its own
	@scripts/chaos

stop: ## stop the host that `make run` left up
	@scripts/stop

test: ## all tests
	@scripts/test

lint: ## formatting, licences, clippy
	@scripts/lint

coverage: ## line coverage of core and engine; fails under 85 %
	@scripts/coverage

bench: ## release build and measurements; figures in bench/out/latest.json
	@scripts/bench

check: ## whether this machine has what the build needs
	@scripts/check-machine

clean: ## remove what was built and the data of `make run`
	@scripts/clean
