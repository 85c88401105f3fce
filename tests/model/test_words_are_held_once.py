"""Equal words are one object; on CPython 3.12 the newest of them."""

from __future__ import annotations

from isthmus.model.words import word


def test_equal_words_are_one_object() -> None:
    one, other = "".join(["eu", "-1"]), "".join(["eu-", "1"])
    assert one is not other
    assert word(one) is word(other)
    assert word(one) == one
