# Other people's clients against the HTTP face, each in an environment of its own. Included by the Makefile.
.PHONY: clients-check

clients-check: $(READY) $(PEERS)/langchain/.ready ## LangChain's real client against the HTTP face (seconds, once it is installed)
	BALDISTILL_PEERS=$(PEERS) $(BIN)/pytest tests/clients
