# The local stack: real servers and all services on the loopback; chaos over it. Included by the Makefile (BIN, READY).

.PHONY: stack-parts up down ps logs chaos one-at-a-time bench-pipeline

# By itself, not by the first test that needs a server: a test's time limit is shorter than a slow machine's build.
stack-parts: $(READY) ## Fetch Kafka, compile MinIO, install PostgreSQL and Prometheus, where missing (some minutes, once)
	$(BIN)/baldistill stack install

# DOCKER=1: the servers in containers (compose.yaml); S3_IMAGE names the store's image.
up: $(READY) ## Start Kafka, MinIO, PostgreSQL, Prometheus and all services here; wait until each is healthy
ifdef DOCKER
	@docker compose version >/dev/null 2>&1 || { echo "docker compose is not here; leave DOCKER=1 away to run the servers as processes" >&2; exit 1; }
	@mkdir -p .baldistill/stack
	@umask 077; $(BIN)/baldistill stack env-file > .baldistill/stack/compose.env
	docker compose --env-file .baldistill/stack/compose.env up --detach --wait
	$(BIN)/baldistill stack up --services-only $(UP)
else
	$(BIN)/baldistill stack up $(UP)
endif

down: $(READY) ## Stop the local stack; its data stays
	$(BIN)/baldistill stack down
ifdef DOCKER
	docker compose --env-file .baldistill/stack/compose.env down
endif

ps: $(READY) ## Show every part of the local stack
	$(BIN)/baldistill stack ps

logs: $(READY) ## Show the last lines of every log of the local stack (PART=policy for one)
	$(BIN)/baldistill stack logs $(PART)

chaos: $(READY) ## Kills, outages, duplicates and delays during whole runs, compared with uninterrupted ones
	$(BIN)/python -m tests.stack.chaos $(CHAOS)

# ALONE: e.g. --repeats 5 --victims teacher-gateway kafka
one-at-a-time: $(READY) ## What each process and server that goes away alone costs: seconds, calls (about 11 minutes)
	$(BIN)/python -m tests.stack.one_at_a_time --repeats 2 $(ALONE)

# PIPELINE: e.g. --only hops
bench-pipeline: $(READY) ## What the pipeline costs beside student compute, the demo on the stack, how long an event takes (about 20 minutes)
	$(BIN)/python -m tests.bench.bench_pipeline $(PIPELINE)
