"""Facts that can be found in a receipt's or invoice's text by plain rules: nothing is guessed that is not printed.

The rules are regular expressions over lines as the OCR engine read them; what they do not find stays unknown.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

TEXT_NAMES = frozenset(
    {"text", "full_text", "content", "transcript", "transcription", "document_text", "raw_text", "ocr_text"}
)
BUYERS = frozenset({"buyer", "customer", "client", "recipient", "bill_to", "ship_to"})
REMARK_NAMES = frozenset({"description", "caption", "summary", "notes", "remarks", "comment", "reason", "explanation"})
_NAMES = {
    "company": "company vendor merchant seller supplier store shop issuer business",
    "date": "date invoice_date receipt_date transaction_date purchase_date issue_date issued issued_on",
    "total": "total total_amount amount_due grand_total amount total_due amount_total",
    "subtotal": "subtotal sub_total net_total net",
    "tax": "tax vat gst sst tax_amount total_tax",
    "address": "address company_address vendor_address merchant_address seller_address store_address",
    "currency": "currency currency_code",
    "number": "invoice_number invoice_no receipt_number receipt_no document_number number bill_number",
    "phone": "phone telephone phone_number tel",
    "items": "line_items items lines products",
    "description": "description item name item_name product_name",
    "quantity": "quantity qty count",
    "unit_price": "unit_price price",
    "line_total": "line_total amount total",
    "language": "language language_code",
}
FACT_OF_NAME = {name: fact for fact, names in _NAMES.items() if fact != "line_total" for name in names.split()}
# `date` and the rest stand for a document read; a field called `name` or `count` alone does not.
TELLING = frozenset({"company", "date", "total", "subtotal", "tax", "address", "number", "phone", "items"})

# Later years are digits of something else: a document tells of what has happened.
LAST_YEAR = datetime.now(UTC).year + 1

MONEY = r"-?\d{1,3}(?:,\d{3})+\.\d{2}|-?\d{1,3}(?:\.\d{3})+,\d{2}|-?\d+\s?[.,]\s?\d{2}"
_AMOUNT = re.compile(rf"(?<![\d.,])(?:{MONEY})(?![\d])")
_TOTAL = re.compile(
    r"\b(grand\s*total|total|amount\s*due|balance\s*due|amount\s*payable|nett?\s*amount)\b", re.IGNORECASE
)
# Totals of something else than what is to be paid.
_OTHER_TOTAL = re.compile(
    r"sub\W{0,3}total|excl|before|saving|discount|total\s*\(?(?:items?|qty|quantity|tax|gst|vat|points?)|supplies",
    re.IGNORECASE,
)
_TAX = re.compile(r"\b(gst|vat|sst|tax)\b", re.IGNORECASE)
_INCLUDED = re.compile(r"\b(incl|inclu\w*|inc|with)\b", re.IGNORECASE)
_NOT_ITEM = re.compile(
    r"total|tax|gst|vat|sst|discount|\bdisc\b|qty|saving|change|cash|visa|master|tender|rounding|balance|amount",
    re.IGNORECASE,
)
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_DATES = (
    re.compile(r"\b(?P<y>20\d\d)\s?(?P<s>[-/.])\s?(?P<m>\d{1,2})\s?(?P=s)\s?(?P<d>\d{1,2})\b"),
    re.compile(r"(?<!\d)(?P<d>\d{1,2})\s?(?P<s>[-/.])\s?(?P<m>\d{1,2})\s?(?P=s)\s?(?P<y>20\d\d|\d\d)(?!\d)"),
    re.compile(rf"\b(?P<d>\d{{1,2}})[\s\-/.]*(?P<m>{'|'.join(_MONTHS)})[a-z]*[\s\-/.,]*(?P<y>20\d\d|\d\d)\b", re.I),
    re.compile(rf"\b(?P<m>{'|'.join(_MONTHS)})[a-z]*[\s.]*(?P<d>\d{{1,2}})(?:st|nd|rd|th)?[\s,]+(?P<y>20\d\d)\b", re.I),
)
# A dollar sign alone stands for two dozen currencies.
_CURRENCIES = (("MYR", r"\bRM|\bMYR\b"), ("EUR", r"€|\bEUR\b"), ("GBP", r"£|\bGBP\b"), ("USD", r"US\$|\bUSD\b"))
_NUMBER = re.compile(
    r"\b(?:invoice|inv|receipt|rcpt|bill|document|doc|slip)\b\.?[ \t]*(?:number\b|num\b|no\b|#)?[^A-Za-z0-9\n]*"
    r"(?P<number>[A-Z0-9][A-Z0-9/\-]*\d[A-Z0-9/\-]*)",
    re.IGNORECASE,
)
_TIME = re.compile(r"(?<![\d:])(?P<time>(?:[01]?\d|2[0-3]):[0-5]\d(?::[0-5]\d)?(?:\s?[AP]M\b)?)", re.IGNORECASE)
_PAYMENTS = (("cash", r"^\W*cash\b"), ("card", r"\b(visa|master\s?card|debit|credit card)\b"))
_PHONE = re.compile(r"\b(?:tel|phone|hp|h/p)\b\D{0,6}(?P<phone>\+?\d[\d\s\-]{6,}\d)", re.IGNORECASE)
_ADDRESS_WORDS = re.compile(
    r"\b(no\.?\s?\d|lot|jalan|jln|street|st\.|road|rd|avenue|ave|lane|taman|lorong|bandar|floor|block|suite|"
    r"\d{5}\s+[A-Z])",
    re.IGNORECASE,
)
_NOT_ADDRESS = re.compile(r"\b(tel|fax|phone|gst|reg|date|invoice|receipt|cashier|www|@)|\(\d{5,}", re.IGNORECASE)
_LEGAL_FORM = re.compile(
    r"\b(s[do]n\.?\s+bhd|bhd|ltd|inc|llc|plc|gmbh|co|enterprise|trading|restaurant)\b", re.IGNORECASE
)
# A registration number or a heading that follows is no part of the name.
_AFTER_NAME = re.compile(r"\s*\([\w\s-]*\d{4}.*$|\s+(tax invoice|invoice|receipt)$", re.IGNORECASE)
_HEADING = re.compile(r"^\W*(tax invoice|invoice|receipt|cash bill|welcome)\W*$", re.IGNORECASE)
_QUANTITY_FIRST = re.compile(r"(?P<quantity>\d{1,3})\s*[xX*]?\s+(?P<words>[A-Za-z].*)")
_QUANTITY_LAST = re.compile(r"(?P<words>.*\S)\s+(?P<quantity>\d{1,4})$")
_ENGLISH = re.compile(r"\b(the|and|of|to|for|you|thank|total|date|amount|with|this)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known about an image: its text, and values by name; a value that was not found is missing.

    `remark` is what the simulator has to say for itself where it did not look.
    """

    text: str = ""
    remark: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)

    def known(self, name: str) -> Any:
        """The value of a field called so in a schema, or None."""
        name = name.lower()
        if name in TEXT_NAMES:
            return self.text or self.remark
        if name in REMARK_NAMES and self.remark:
            return self.remark
        fact = FACT_OF_NAME.get(name) or FACT_OF_NAME.get(name.removesuffix("_name"))
        return self.values.get(name, self.values.get(fact or ""))

    def of_item(self, item: Mapping[str, Any]) -> "Facts":
        """The facts of one line of the bill; those of the whole bill do not hold for it."""
        return Facts(values=item)

    def of_part(self, name: str) -> "Facts":
        """The facts of an object inside: the seller's own for a seller, none for a buyer, the same for any other."""
        name = name.lower()
        if name in BUYERS:
            return Facts(remark=self.remark)
        if FACT_OF_NAME.get(name) != "company":
            return self
        own = {fact: self.values[fact] for fact in ("address", "phone") if fact in self.values}
        return Facts(remark=self.remark, values=own | {"name": self.values.get("company")})


def asks_for_facts(schema: Any) -> bool:
    """Whether a schema names a field that read text can fill."""
    if isinstance(schema, list):
        return any(asks_for_facts(part) for part in schema)
    if not isinstance(schema, dict):
        return False
    for name in schema.get("properties", {}):
        short = name.lower()
        fact = FACT_OF_NAME.get(short) or FACT_OF_NAME.get(short.removesuffix("_name"))
        if short in TEXT_NAMES or fact in TELLING:
            return True
    return any(asks_for_facts(part) for part in schema.values())


def find_facts(text: str) -> Facts:
    """Everything the rules find in a text."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    found = {
        "company": _company(lines),
        "date": _date(text),
        "total": _total(lines),
        "subtotal": _amount_beside(lines, r"sub\s*-?total"),
        "tax": _amount_beside(lines, r"\b(?:gst|vat|sst|tax)\b(?!\s*(?:invoice|id|no|num|reg))"),
        "address": _address(lines),
        "currency": next((code for code, sign in _CURRENCIES if re.search(sign, text)), None),
        "number": _group(_NUMBER, text, "number"),
        "phone": _group(_PHONE, text, "phone"),
        "time": _group(_TIME, text, "time"),
        "payment": next((way for way, words in _PAYMENTS if _amount_beside(lines, words) is not None), None),
        "items": list(_items(lines)),
        "language": "en" if len(_ENGLISH.findall(text)) >= 3 else None,
    }
    return Facts(text, values={name: value for name, value in found.items() if value not in (None, [])})


def _group(pattern: re.Pattern[str], text: str, name: str) -> str | None:
    match = pattern.search(text)
    return match[name].strip() if match else None


def _company(lines: list[str]) -> str | None:
    """The first line near the top with a company's legal form, else the first that is mostly letters."""
    top = [line for line in lines[:8] if sum(map(str.isalpha, line)) >= max(4, len(line) * 0.6)]
    legal = [line for line in lines[:8] if _LEGAL_FORM.search(line) and not _NOT_ADDRESS.search(line.split("(")[0])]
    return next((_AFTER_NAME.sub("", line) for line in legal or top if _HEADING.search(line) is None), None)


def _date(text: str) -> str | None:
    """The first date printed, as YYYY-MM-DD; day before month, as most of the world writes it."""
    matches = sorted((match for pattern in _DATES for match in pattern.finditer(text)), key=lambda match: match.start())
    for match in matches:
        year = int(match["y"]) + (2000 if len(match["y"]) == 2 else 0)
        month_text = match["m"].lower()
        month = int(month_text) if month_text.isdigit() else _MONTHS.index(month_text[:3]) + 1
        day = int(match["d"])
        if month > 12 >= day:
            day, month = month, day
        try:
            found = date(year, month, day)
        except ValueError:
            continue
        if found.year <= LAST_YEAR:
            return found.isoformat()
    return None


def _amounts(line: str) -> list[float]:
    return [_to_number(match[0]) for match in _AMOUNT.finditer(line)]


def _to_number(text: str) -> float:
    digits = re.sub(r"[^\d-]", "", text)
    return int(digits) / 100


def _total(lines: list[str]) -> float | None:
    """The amount after a word for the total, on its line or the next; the one printed most often, then the first."""
    found: list[float] = []
    for index, line in enumerate(lines):
        words = list(_TOTAL.finditer(line))
        if not words or (_OTHER_TOTAL.search(line) and len(words) == 1):
            continue
        if _TAX.search(line) and not _INCLUDED.search(line):
            continue
        after = _amounts(line[words[-1].end() :])
        if not after and not any(map(str.isdigit, line)):
            after = _amounts(" ".join(lines[index + 1 : index + 2]))
        found += [max(after)] if after else []
    return max(found, key=found.count, default=None)


def _amount_beside(lines: list[str], word: str) -> float | None:
    for line in lines:
        if re.search(word, line, re.IGNORECASE) and (amounts := _amounts(line)):
            return amounts[-1]
    return None


def _address(lines: list[str]) -> str | None:
    """The run of address-like lines near the top."""
    run: list[str] = []
    for line in lines[1:12]:
        if _ADDRESS_WORDS.search(line) and not _NOT_ADDRESS.search(line):
            run.append(line.rstrip(" ,."))
        elif run:
            break
    return ", ".join(run) or None


def _items(lines: list[str]) -> Iterator[dict[str, Any]]:
    """Lines with words and an amount at the end, above the first total."""
    for line in lines:
        if re.search(r"total|amount due|balance", line, re.IGNORECASE):
            return
        amounts = list(_AMOUNT.finditer(line))
        words = line[: amounts[0].start()].strip(" .:*@$€£") if amounts else ""
        if sum(map(str.isalpha, words)) < 3 or _NOT_ITEM.search(words):
            continue
        total = _to_number(amounts[-1][0])
        item: dict[str, Any] = {"description": words, "line_total": total, "amount": total, "total": total}
        item["price"] = total
        quantity = _QUANTITY_FIRST.match(words) or _QUANTITY_LAST.match(words)
        if quantity:
            item |= {"description": quantity["words"], "quantity": int(quantity["quantity"])}
        if len(amounts) > 1:
            item["unit_price"] = _to_number(amounts[-2][0])
        yield item
