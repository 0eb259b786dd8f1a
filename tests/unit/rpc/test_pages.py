"""Page tokens lead on from where a page ended, and what no page gave out is the caller's mistake."""

from __future__ import annotations

import pytest

from baldistill.errors import InvalidInput
from baldistill.rpc.pages import last_id_of, last_number_of, page_size, page_token


def test_a_token_leads_back_to_the_entry_it_was_made_of() -> None:
    assert last_id_of(page_token("run-7")) == "run-7"
    assert last_number_of(page_token("12")) == 12
    assert last_number_of("") is None


@pytest.mark.parametrize("last", ["x", "-1", "1.5", str(2**63), "9" * 400])
def test_a_number_that_no_page_can_have_is_refused(last: str) -> None:
    with pytest.raises(InvalidInput, match="page_token"):
        last_number_of(page_token(last))


def test_a_page_has_a_limit_and_a_size_where_none_is_asked_for() -> None:
    assert (page_size(0), page_size(3), page_size(1000)) == (100, 3, 1000)
    with pytest.raises(InvalidInput, match="1000"):
        page_size(1001)
