"""Texts by which a DUT reports that its input or its inference was wrong.

One set of rules for the daemon and for re-scoring; ``docs/measurement.md`` has them as a table.
They come from the sources and logs of all public rounds (github.com/mlcommons/tiny_results_v0.5 to
v1.3): ports of the test harness word the same fault differently, and some print the sizes of a
right input as information. There are two strengths:

* :func:`errors_in`: errors of the protocol and the wordings of the published harness. They count
  wherever the DUT sends them.
* :func:`failures_in`: these, and any wording of a failure. It judges replies to ``infer`` and
  ``db`` only; elsewhere, in a boot banner for instance, other text is information.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from labd.protocol.lines import Line


def errors_in(lines: Sequence[Line]) -> list[str]:
    """Return the errors of the protocol, and the known failures of the published harness."""
    return [text for line in lines for text in errors_in_text(line.text)]


def failures_in(lines: Sequence[Line]) -> list[str]:
    """Return every text in a reply to ``infer`` or ``db`` that reports a failure."""
    return [text for line in lines for text in failures_in_text(line.text)]


# ---- errors of the protocol, and wordings of the published harness --------------------------

_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")

# `e-[…]` starts a line or follows a prompt or an echo: `core-[0]` and `m-profile-[x]` are none.
_BRACKETED = re.compile(r"(?<![\w-])e-\[(?P<text>[^\]]*)\]?")
_BARE = re.compile(r"^(?:\W*|.*%\s*)e-(?P<text>[A-Z].*)")
# After an echo without `%` (`fooe-[Unknown command: foo]`), only what the harness itself prints.
_AFTER_ECHO = re.compile(
    r"e-\[(?P<text>(?:Unknown command|Inference (?:iterations|warmup) must|Command 'db|"
    r"Insuffici?ent number|Invalid hex digit|Buffer not allocated|Unable to malloc)[^\]]*)\]?"
)
_INPUT_SIZE = re.compile(
    r"Input (?:db|buffer|tensor)\b.{0,20}?(?:\bhas|\bhad|\bis|:)\s+(?P<has>[\w%]+)"
    r".{0,40}?\bexpect\w*\W*(?P<expected>[\w%]+)",
    re.IGNORECASE,
)
_HARNESS = re.compile(
    r"Supplied buffer size \S+ exceeds maximum of \S+"
    r"|Invoke failed|Allocate ?Tensors(?:\(\))? failed|calculate result error.*"
    r"|fail to (?:eai_execute|load inputs|save outputs|fill i/o tensor buffer).*"
    r"|error ?(?:\([\w -]+\))?: (?:didn't get interrupt|(?:error|no) ack from dsp)"
    r"|\bhard ?fault\b.*|\bassertion\b.{0,200}\bfailed\b.*",
    re.IGNORECASE,
)


@lru_cache(maxsize=4096)
def errors_in_text(text: str) -> tuple[str, ...]:
    """Return the errors in one line; see :func:`errors_in`."""
    text = _ANSI.sub("", text)
    marked = [m["text"] for m in _BRACKETED.finditer(text)]
    marked = marked or [m["text"] for m in _AFTER_ECHO.finditer(text)]
    marked = marked or [m["text"] for m in _BARE.finditer(text)]
    sizes = list(_INPUT_SIZE.finditer(text))
    if marked:  # a size that is right is information, even if it is marked as an error
        right = sizes and all(m["has"] == m["expected"] for m in sizes)
        return () if right else tuple(marked)
    wrong = [m[0] for m in sizes if m["has"] != m["expected"]]  # also an unprinted %zu
    return (*wrong, *(m[0] for m in _HARNESS.finditer(text)))


# ---- any other wording ----------------------------------------------------------------------

_PROTOCOL_WORD = re.compile(
    r"m-(?:ready|warmup-start-\d*|warmup-done|infer-start-\d*|infer-done|lap-us-\d*|load-done"
    r"|results-\[[^\]]*\]?|\[Expecting \d+ bytes\])"
)
_WORD_BREAK = re.compile(r"(?<=[a-z])(?=[A-Z][a-z])|_")

_SIZED = re.compile(
    r"\b(?:input|db|buffer|tensor|bytes?|element(?:s|ed)?|dimensions?|size|shape|length)\b",
    re.IGNORECASE,
)
_NUMBER = r"(?<!\d)\d{1,12}(?!\d)"
_SIZES = re.compile(
    rf"(?P<has>{_NUMBER})\D{{0,40}}?(?:\bexpect\w*|!=|\binstead of)\D{{0,20}}?"
    rf"(?P<expected>{_NUMBER})"
    rf"|\bexpect\w*\D{{0,20}}?(?P<expected2>{_NUMBER})\D{{0,40}}?(?P<has2>{_NUMBER})",
    re.IGNORECASE,
)

_FAILURE = (
    r"(?:errors?|err|fail(?:s|ed|ing|ures?)?|(?:hard ?|bus ?|usage ?|mem ?|page ?)?faults?|fatal"
    r"|panic(?:ked)?|crash(?:ed|es)?|corrupt(?:ed|ion)?|abort(?:ed|s)?|exceptions?|segfault"
    r"|unsuccessful(?:ly)?|overruns?|mismatch(?:es|ed)?|timeouts?)"
)
_COUNTED = r"(?:\s+(?:counts?|cnt|codes?|status|flags?|number|total|detected|found|so far|bits?))*"

# Harmless phrases are taken out of a text before it is judged.
_NO_FAILURE = re.compile(
    r"\b(?:no|zero|0|without(?: any?)?|never|not|free of)\s+(?:\w+\s+){0,2}?"
    rf"(?:{_FAILURE}|overflow|underrun)\b"
)
_ZERO_FAILURES = re.compile(
    rf"\b{_FAILURE}{_COUNTED}\s*(?:is|are|[:=])?\s*[(\[]?\s*(?:0x0+|0+|none|no|ok|false)(?![\w.])"
    r"(?=\s*(?:$|[,;)\](/|]|of\b|out\b|in\b|\w+\s*[:=]|\w+\s+\d))"
)
_TERM = re.compile(  # "error rate 0.01", "fail-safe clock", "on error"
    r"\b(?:errors?|fail|faults?)[- ](?:free|safe|over|toleran\w*|rates?|ratio|percentage|bounds?"
    r"|margins?|thresholds?|correct\w*|handlers?|handling|reporter|log(?:ging|s)?|callback|level"
    r"|checking|detection|limit|budget|norm|metric)\b"
    r"|\b(?:on|upon|if|when)\s+(?:an?\s+|any\s+)?(?:error|failure|fault)\b"
    r"|\bexception (?:handlers?|levels?|vectors?|table)\b"
)
_QUANTITY = re.compile(  # "mean squared error: 0.013", "max error 3", "error = 12.5"
    r"\b(?:mean|avg|average|squared?|absolute|abs|max(?:imum)?|min(?:imum)?|rms|reconstruction"
    r"|quanti[sz]ation|rounding|relative|residual|prediction|standard|std|phase|frequency|clock"
    r"|timing|drift)\s+errors?\b"
    r"|\berrors?\s*(?:\(\w+\))?\s*(?:is|of|[:=~<])?\s*[-+]?\d*\.\d+(?:e[-+]?\d+)?"
)
_TIMEOUT_SETTING = re.compile(
    r"\btimeout\b(?!\s*(?:!|\.?$|waiting|while|on\b|in\b|during|expired|occurr))"
)
_NOTHING_LOST = re.compile(
    r"\b(?:0|no|zero)\s+\w+\s+(?:lost|dropped|skipped|missing|ignored)\b"
    r"|\b(?:lost|dropped|skipped|missing|ignored)(?:\s+\w+)?\s*[:=]?\s*0\b(?!\.)"
    r"|\bbytes lost due to alignment\b"
)
_HARMLESS = (_NO_FAILURE, _ZERO_FAILURES, _TERM, _QUANTITY, _TIMEOUT_SETTING, _NOTHING_LOST)

# A failure by itself.
_FAILS = re.compile(
    rf"\b{_FAILURE}\b|\bout of (?:memory|range|bounds|heap)\b|\btimed out\b|\bnot ok\b"
    r"|\bstack (?:overflow|smash)|\bassert(?:ion)?\b(?=\s*(?:fail|violat|at\b|in\b|[:(!\"']))"
    r"|\bno (?:valid |new |more )?(?:input|data|model|interrupt|ack|result)s?\b"
    r"(?=\s*(?:$|[.!;,]|from|received|loaded|found|available|yet))"
)
# A failure only of one of these: "input truncated", but "log truncated" is information.
_SUBJECT = re.compile(
    r"\b(?:inputs?|outputs?|infer\w*|invoke\w*|invocation|models?|networks?|graph|tensors?|arena"
    r"|buff(?:er)?s?|db|data|results?|samples?|dsp|npu|accelerator|interrupts?|dma|memory|ack"
    r"|bytes?|elements?|interpreter|execut\w*|shape|dimensions?|schema|quanti[sz]\w*)\b"
)
_NOT_DONE = (
    r"\bnot (?:supported|ready|found|loaded|initiali[sz]ed|allocated|available|set|valid|enough"
    r"|complete\w*|executed|run|done|received|match\w*|equal|finish\w*|aligned|updated|written"
    r"|changed|succe\w*|performed|computed|taken|present)\b"
)
_WRONG = re.compile(
    r"(?:\b(?:wrong|incorrect(?:ly)?|invalid|missing|incomplete|truncated|stale|bad|unexpected"
    r"|unsupported|unable|cannot|can't|couldn't|didn't|wasn't|insufficient|overflow(?:ed)?"
    r"|underrun|lost|dropped|skipped|ignor(?:ed|ing)|rejected|refused|discarded|illegal"
    r"|exceed(?:s|ed)|unknown|garbage|nan|denied)\b|\b(?:could|did) not\b|\bonly \d+\b"
    r"|\b(?:does not|doesn't) (?:match|fit|work|answer|respond|exist|run)\b|\bneeds? more\b"
    rf"|\btoo (?:small|large|big|short|long|few|many)\b|{_NOT_DONE}"
    r"|\b(?:returned|returns|ret|rc|status)\s*[:=]?\s*-\d)"
)
_OLD_INPUT = re.compile(
    r"\b(?:using|reus\w+|kept|keeping|still)\b.{0,40}\b(?:old|previous|stale|last|dummy)\b.{0,40}"
    r"\b(?:input|data|tensor|buffer|samples?)\b"
)


@lru_cache(maxsize=4096)
def failures_in_text(text: str) -> tuple[str, ...]:
    """Return the failures in one line; see :func:`failures_in`."""
    if found := errors_in_text(text):
        return found
    rest = _PROTOCOL_WORD.sub(" ", _ANSI.sub("", text)).strip()
    return (rest,) if _has_wrong_size(rest) or _words_failure(rest) else ()


def _has_wrong_size(text: str) -> bool:
    """Return whether two sizes that should be equal are not."""
    if not _SIZED.search(text):
        return False
    pairs = (
        (m["has"] or m["has2"], m["expected"] or m["expected2"]) for m in _SIZES.finditer(text)
    )
    return any(int(has) != int(expected) for has, expected in pairs)


def _words_failure(text: str) -> bool:
    """Return whether a text words a failure once all harmless phrases are taken out."""
    plain = _WORD_BREAK.sub(" ", text).lower()
    for harmless in _HARMLESS:
        plain = harmless.sub(" ", plain)
    if _FAILS.search(plain) or _OLD_INPUT.search(plain):
        return True
    return bool(_WRONG.search(plain) and _SUBJECT.search(plain))
