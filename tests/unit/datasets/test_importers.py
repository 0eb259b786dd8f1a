"""Published layouts: what they say is read, and what is wrong with them is named by file and line."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from baldistill.artifacts.local import LocalArtifactStore
from baldistill.datasets.importers.gsm8k import gsm8k_rows
from baldistill.datasets.importers.math_folder import boxed_answer, math_rows
from baldistill.datasets.importers.opening import OriginalLayout, OriginalOptions, open_original
from baldistill.datasets.importers.reuters_sgml import ReutersView, reuters_rows
from baldistill.datasets.importers.sgml_documents import plain_text, read_documents
from baldistill.datasets.importers.topic_text import topic_text_rows
from baldistill.datasets.importers.trec_labels import trec_rows
from baldistill.datasets.importing import import_dataset
from baldistill.datasets.side_files import read_rationales
from baldistill.datasets.sources.formats import SourceFormat
from baldistill.datasets.sources.rows import SourceRow
from baldistill.datasets.storage import iter_examples
from baldistill.errors import InvalidInput


def document(number: int, *topics: str, split: str = "TRAIN", text: str | None = None, topical: str = "YES") -> str:
    listed = "".join(f"<D>{topic}</D>" for topic in topics)
    body = (
        text
        or f"<TITLE>TITLE {number}</TITLE>\n<DATELINE> X, May 1 - </DATELINE><BODY>Body of\n   {number}.\n Reuter\n&#3;</BODY>"
    )
    return (
        f'<REUTERS TOPICS="{topical}" LEWISSPLIT="{split}" CGISPLIT="TRAINING-SET" OLDID="9" NEWID="{number}">\n'
        f"<DATE>26-FEB-1987</DATE>\n<TOPICS>{listed}</TOPICS>\n<PLACES><D>usa</D></PLACES>\n"
        f"<TEXT>&#2;\n{body}</TEXT>\n</REUTERS>\n"
    )


DOCUMENTS = [
    document(1, "earn"),
    document(2, "earn", "acq"),
    document(3, "wheat", "grain", "wheat"),
    document(4, "grain"),
    document(5, "only-train"),
    document(6, "earn", topical="BYPASS"),
    document(7, split="TRAIN"),
    document(8, "earn", split="TEST"),
    document(9, "acq", "only-test", split="TEST"),
    document(10, "grain", "wheat", split="TEST"),
    document(11, "earn", split="NOT-USED"),
]


def sgml(folder: Path, documents: list[str] | None = None, name: str = "reut2-000.sgm") -> Path:
    folder.mkdir(exist_ok=True)
    text = '<!DOCTYPE lewis SYSTEM "lewis.dtd">\n' + "".join(documents or DOCUMENTS)
    (folder / name).write_bytes(text.encode("latin-1"))
    return folder


def short(rows: Iterator[SourceRow]) -> list[tuple[object, object, object]]:
    return [(row.values["id"], row.values["domain"], row.values["answer"]) for row in rows]


def refusal(rows: Iterator[SourceRow]) -> str:
    with pytest.raises(InvalidInput) as caught:
        list(rows)
    return str(caught.value)


def test_r52_takes_documents_with_exactly_one_topic_of_both_splits(tmp_path: Path) -> None:
    splits = reuters_rows(sgml(tmp_path / "sgml"), view=ReutersView.R52)
    # acq and grain are single in one split only; only-test is no topic of both splits, so document 9 has one: acq.
    assert short(splits["train"].rows()) == [("reut-1", "earn", "earn")]
    assert short(splits["test"].rows()) == [("reut-8", "earn", "earn")]


def test_pairs_are_one_line_a_topic_and_a_repeated_topic_counts_once(tmp_path: Path) -> None:
    splits = reuters_rows(sgml(tmp_path / "sgml"), view=ReutersView.PAIRS)
    assert short(splits["train"].rows()) == [
        ("reut-1-earn", "earn", "earn"),
        ("reut-2-earn", "earn", "earn"),
        ("reut-2-acq", "acq", "acq"),
        ("reut-3-wheat", "wheat", "wheat"),
        ("reut-3-grain", "grain", "grain"),
        ("reut-4-grain", "grain", "grain"),
    ]


def test_documents_have_all_their_topics_and_the_rarest_is_the_domain(tmp_path: Path) -> None:
    splits = reuters_rows(sgml(tmp_path / "sgml"), view=ReutersView.DOCUMENTS)
    assert short(splits["train"].rows())[1:3] == [("reut-2", "acq", "acq; earn"), ("reut-3", "wheat", "grain; wheat")]
    assert short(splits["test"].rows())[1:] == [("reut-9", "acq", "acq"), ("reut-10", "wheat", "grain; wheat")]


def test_an_archive_reads_as_its_folder_does(tmp_path: Path) -> None:
    folder = sgml(tmp_path / "sgml")
    sgml(folder, [document(12, "acq")], name="reut2-001.sgm")
    with tarfile.open(tmp_path / "all.tar.gz", "w:gz") as archive:
        for name in ("reut2-001.sgm", "reut2-000.sgm"):
            archive.add(folder / name, arcname=name)
    of_folder = reuters_rows(folder, view=ReutersView.PAIRS)["train"].rows()
    of_archive = reuters_rows(tmp_path / "all.tar.gz", view=ReutersView.PAIRS)["train"].rows()
    assert [row.values for row in of_archive] == [row.values for row in of_folder]


def test_text_is_title_and_body_folded_without_the_agency_s_signature(tmp_path: Path) -> None:
    row = next(reuters_rows(sgml(tmp_path / "sgml"), view=ReutersView.R52)["train"].rows())
    assert row.values["input"] == "TITLE 1\nBody of 1."
    assert (row.line, row.path.name) == (2, "reut2-000.sgm")


def test_character_references_and_latin_1_are_resolved() -> None:
    assert (
        plain_text("U.S. &lt;IBM> &amp; Soci\u00e9t\u00e9 &#71;&#3;x\n\n  y") == "U.S. <IBM> & Soci\u00e9t\u00e9 G x y"
    )


def test_an_unprocessed_text_is_all_body() -> None:
    raw = document(1, "earn", text="MONEY SUPPLY\n  1,200 vs 1,100\nReuter").replace("<TEXT>", '<TEXT TYPE="UNPROC">')
    [read] = read_documents(Path("a.sgm"), raw.encode())
    assert read.text == "MONEY SUPPLY 1,200 vs 1,100"


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (
            lambda text: text[: text.index('NEWID="2"') + 120],
            "a.sgm:8: the document that begins here has no </REUTERS>",
        ),
        (lambda text: text.replace("</REUTERS>", "", 1), "a.sgm:1: the document that begins here has no </REUTERS>"),
        (
            lambda text: text.replace("</TOPICS>", "", 1),
            "a.sgm:1: <TOPICS> of the document that begins here is not closed",
        ),
        (lambda text: text.replace('NEWID="1"', "", 1), "a.sgm:1: the document has no attribute NEWID"),
        (lambda _text: "nothing", "a.sgm:1: has no document"),
    ],
)
def test_a_damaged_sgml_file_is_named_by_line(damage: Callable[[str], str], told: str) -> None:
    text = document(1, "earn", text="<TITLE>t</TITLE><BODY>b</BODY>") + document(2, "earn")
    with pytest.raises(InvalidInput) as caught:
        list(read_documents(Path("a.sgm"), damage(text).encode("latin-1")))
    assert str(caught.value).startswith(told)


def test_one_split_without_the_other_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no topic occurs both in train and in test"):
        reuters_rows(sgml(tmp_path / "sgml", [document(1, "earn")]), view=ReutersView.R52)


def test_a_cut_archive_is_refused_by_name(tmp_path: Path) -> None:
    folder = sgml(tmp_path / "sgml")
    with tarfile.open(tmp_path / "all.tar.gz", "w:gz") as archive:
        archive.add(folder / "reut2-000.sgm", arcname="reut2-000.sgm")
    cut = tmp_path / "cut.tar.gz"
    cut.write_bytes((tmp_path / "all.tar.gz").read_bytes()[:150])
    with pytest.raises(InvalidInput, match=r"cut.tar.gz: damaged archive"):
        reuters_rows(cut, view=ReutersView.R52)


def test_topic_text_lines_are_numbered_by_document(tmp_path: Path) -> None:
    path = tmp_path / "r8.txt"
    path.write_text("earn\tprofits rose\n\nacq\tbought it\n")
    assert short(topic_text_rows(path, split="test", name="r8").rows()) == [
        ("r8-test-0", "earn", "earn"),
        ("r8-test-1", "acq", "acq"),
    ]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"earn\tok\nno tab here\n", ":2: no tab: expected a topic, a tab and the text, found 'no tab here'"),
        (b"earn\tok\nprofits rose again\tearn\n", ":2: 'profits rose again' is no topic"),
        (b"\ttext without a topic\n", ":1: '' is no topic"),
        (b"earn\tok\nearn\tcaf\xe9\n", ":2: not UTF-8: byte 0xe9 at byte 9 of the line"),
    ],
)
def test_a_wrong_topic_file_is_named_by_line(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "topics.txt"
    path.write_bytes(content)
    assert refusal(topic_text_rows(path, split="train", name="x").rows()).startswith(f"{path}{told}")


def test_trec_questions_are_latin_1(tmp_path: Path) -> None:
    path = tmp_path / "train.label"
    path.write_bytes(b"HUM:ind Who is Beyonc\xe9 ?\nNUM:date When was it ?\n")
    rows = list(trec_rows(path, split="train").rows())
    assert [row.values["input"] for row in rows] == ["Who is Beyonc\u00e9 ?", "When was it ?"]
    path.write_bytes(b"HUM:ind Who ?\nwithout a label\n")
    assert refusal(trec_rows(path, split="train").rows()).startswith(f"{path}:2: expected COARSE:fine and a question")


def test_gsm8k_has_its_steps_as_domain_and_its_solution_as_rationale(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    long_solution = "\n".join(["a step"] * 9)
    answers = ["She has 2+1 = <<2+1=3>>3.\nSo 3,000.\n#### 3,000", f"{long_solution}\n#### 7"]
    path.write_text("".join(json.dumps({"question": f"q{n} ", "answer": one}) + "\n" for n, one in enumerate(answers)))
    first, second = gsm8k_rows(path, split="train").rows()
    assert first.values == {
        "id": "gsm8k-train-0",
        "domain": "steps-2",
        "input": "q0",
        "answer": "3000",
        "rationale": "She has 2+1 = 3.\nSo 3,000.",
    }
    assert second.values["domain"] == "steps-8+"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b'{"question": "q", "answer": "It is 3."}', ":2: field 'answer': has no #### before its number"),
        (b'{"question": "q", "answer": "It is 3.\\n####  "}', ":2: field 'answer': has no number after ####"),
        (b'{"answer": "#### 3"}', ":2: field 'question': is missing or no text"),
        (b'{"question": "caf\xe9", "answer": "#### 3"}', ":2: not UTF-8: byte 0xe9"),
    ],
)
def test_a_wrong_gsm8k_line_is_named(tmp_path: Path, line: bytes, told: str) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(b'{"question": "q", "answer": "#### 1"}\n' + line + b"\n")
    assert refusal(gsm8k_rows(path, split="train").rows()).startswith(f"{path}{told}")


@pytest.mark.parametrize(
    ("solution", "answer"),
    [
        (r"So $\boxed{\frac{1}{2}}$.", r"\frac{1}{2}"),
        (r"$\boxed{1}$, then $\boxed{\text{a {b} c}}$", r"\text{a {b} c}"),
        (r"gives $\boxed 7$ in all", " 7"),
        (r"gives \fbox{8}", "8"),
        (r"$\boxed{}$", ""),
        (r"$\boxed{\frac{1}{2}$", None),
        ("no box", None),
    ],
)
def test_the_last_box_is_the_answer(solution: str, answer: str | None) -> None:
    assert boxed_answer(solution) == answer


def math_folder(folder: Path, **solutions: str) -> Path:
    for name, solution in solutions.items():
        for split in ("train", "test"):
            file = folder / split / "algebra" / f"{name}.json"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps({"problem": f" {split} {name} ", "level": "Level 1", "solution": solution}))
    return folder


def test_math_problems_keep_subject_solution_and_answer(tmp_path: Path) -> None:
    rows = list(math_rows(math_folder(tmp_path, p1=r" It is $\boxed{4}$. "), split="test").rows())
    assert [row.values for row in rows] == [
        {
            "id": "math-test-algebra-p1",
            "domain": "algebra",
            "input": "test p1",
            "answer": "4",
            "rationale": r"It is $\boxed{4}$.",
        }
    ]


def test_an_empty_math_answer_is_refused_by_file_or_left_out_when_asked(tmp_path: Path) -> None:
    folder = math_folder(tmp_path, p1=r"$\boxed{4}$", p2=r"$\boxed{}$")
    told = refusal(math_rows(folder, split="train").rows())
    assert told.startswith(f"{folder / 'train/algebra/p2.json'}: field 'solution': has an empty")
    assert "--skip-empty-answers" in told
    kept = math_rows(folder, split="train", skip_empty_answers=True).rows()
    assert [row.values["id"] for row in kept] == ["math-train-algebra-p1"]


def test_a_math_solution_without_a_box_is_refused_even_then(tmp_path: Path) -> None:
    folder = math_folder(tmp_path, p1="It is four.")
    assert "has no \\boxed" in refusal(math_rows(folder, split="train", skip_empty_answers=True).rows())


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b'{"problem": "a",\n "solution": "caf\xe9"}', ":2: not UTF-8"),
        (b'{"problem": "a",\n oops}', ":2: malformed JSON"),
        (b'{"problem": "a"}', ":1: field 'solution': is missing"),
    ],
)
def test_a_damaged_math_file_is_named(tmp_path: Path, content: bytes, told: str) -> None:
    folder = math_folder(tmp_path, p1=r"$\boxed{4}$")
    file = folder / "train/algebra/p1.json"
    file.write_bytes(content)
    assert refusal(math_rows(folder, split="train").rows()).startswith(f"{file}{told}")


def test_a_folder_without_the_split_is_refused(tmp_path: Path) -> None:
    folder = math_folder(tmp_path, p1=r"$\boxed{4}$")
    with tarfile.open(tmp_path / "m.tar.gz", "w:gz") as archive:
        archive.add(folder / "train", arcname="MATH/train")
    assert "has no folder 'test'" in refusal(math_rows(tmp_path / "m.tar.gz", split="test").rows())


def test_reuters_names_its_own_test_set(tmp_path: Path) -> None:
    folder = sgml(tmp_path / "sgml")
    with pytest.raises(InvalidInput, match="say themselves"):
        open_original(folder, folder, layout=OriginalLayout.REUTERS_SGML, options=OriginalOptions())
    with pytest.raises(InvalidInput, match="no such file"):
        open_original(tmp_path / "away", None, layout=OriginalLayout.TREC, options=OriginalOptions())


def test_rationales_are_imported_beside_the_rows(store: LocalArtifactStore, tmp_path: Path) -> None:
    folder = math_folder(tmp_path / "MATH", p1=r"one: $\boxed{1}$", p2=r"two: $\boxed{2}$")
    result = import_dataset(
        store, tenant="acme", name="math", train=folder, source_format=SourceFormat.MATH_FOLDER
    ).dataset
    assert (result.pool.rows, result.test.rows) == (2, 2)
    assert result.rationales is not None
    assert read_rationales(store, result.rationales)["math-train-algebra-p2"] == r"two: $\boxed{2}$"
    assert len(read_rationales(store, result.rationales)) == 4
    assert [one.answer for one in iter_examples(store, result.pool)] == ["1", "2"]


def test_documents_import_with_the_topics_of_both_splits(store: LocalArtifactStore, tmp_path: Path) -> None:
    dataset = import_dataset(
        store,
        tenant="acme",
        name="reuters",
        train=sgml(tmp_path / "sgml"),
        source_format=SourceFormat.REUTERS_SGML,
        options=OriginalOptions(reuters=ReutersView.PAIRS),
    ).dataset
    assert (dataset.pool.rows, dataset.test.rows) == (6, 4)
    assert dataset.labels == ("acq", "earn", "grain", "wheat")
    assert dataset.given == {"acq": 2, "earn": 3, "grain": 3, "wheat": 2}
