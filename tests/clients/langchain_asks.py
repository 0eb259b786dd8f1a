"""What a LangChain user does at the HTTP face, in LangChain's own environment; run by test_langchain.py. Prints JSON.

python langchain_asks.py URL TOKEN BUDGET EMPTY_BUDGET
"""

from __future__ import annotations

import json
import sys

import openai
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI


@tool
def weather(city: str) -> str:
    """Tell the weather of a city."""
    return f"rain in {city}"


def refusal(llm: ChatOpenAI) -> dict:
    """Ask, and return what the user is told."""
    try:
        llm.invoke("Which label?")
    except openai.APIStatusError as error:
        # The client hands on what stands in `error` of the body.
        return {"status": error.status_code, "body": error.body}
    return {"status": 200}


def main(url: str, token: str, budget: str, empty: str) -> None:
    def client(*, token: str = token, budget: str = budget) -> ChatOpenAI:
        # As its documentation has it: its own retries stay on.
        return ChatOpenAI(
            model="gpt-fake",
            base_url=url,
            api_key=token,
            max_tokens=64,
            default_headers={"X-BalDistill-Budget": budget},
        )

    llm = client()
    answer = llm.invoke("Which label?")
    chunks = list(llm.stream("Which label?"))
    batch = llm.batch(["Which label?"] * 4)
    called = llm.bind_tools([weather]).invoke("!tools")
    sys.stdout.write(
        json.dumps(
            {
                "answer": {"content": answer.content, "usage": answer.usage_metadata},
                "stream": {"content": "".join(chunk.content for chunk in chunks), "chunks": len(chunks)},
                "batch": [one.content for one in batch],
                "tools": called.tool_calls,
                "exhausted": refusal(client(budget=empty)),
                "bad_token": refusal(client(token="nobody")),
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
