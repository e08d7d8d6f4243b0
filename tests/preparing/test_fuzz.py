"""A short session of the fuzzer, the same cases every time; `make fuzz` goes on from there."""

from tests.fuzz import Session, case


def test_whatever_is_broken_in_a_file_it_ends_as_images_or_as_a_reason() -> None:
    session = Session()
    for number in range(300):
        session.run(number)
    assert session.findings == []
    assert len(session.outcomes) >= 6, "the cases reach past the first look at a file"
    assert session.outcomes["ok"] >= 20


def test_a_case_is_the_same_whenever_it_is_made() -> None:
    assert [case(number) for number in range(20)] == [case(number) for number in range(20)]
