"""What the caller knows about the situation in which it asks."""

from collections.abc import Iterable
from dataclasses import dataclass

from consentry_client.subject import as_texts
from consentry_client.vocabulary import AgeBand

_YOUNGEST_FIRST = (AgeBand.CHILD, AgeBand.TEEN, AgeBand.ADULT)


@dataclass(frozen=True, slots=True)
class Context:
    """The situation of a question. It combines with what the log knows of the person; the strictest wins.

    Attributes:
        jurisdictions: ISO 3166 codes and regions of the policy, such as `DE`, `EU`, `US-CA`.
        age_band: The subject's, where the caller knows it.
        sec_gpc: The request carried `Sec-GPC: 1`.
        recipient: Who would receive the data; empty means the controller itself.
        data_categories: Categories of data that would be used, such as `health`.
    """

    jurisdictions: str | Iterable[str] = ()
    age_band: AgeBand = AgeBand.UNSPECIFIED
    sec_gpc: bool = False
    recipient: str = ""
    data_categories: str | Iterable[str] = ()

    def __post_init__(self) -> None:
        # A plain "EU" is meant as one jurisdiction and must not become the two letters of it.
        object.__setattr__(self, "jurisdictions", as_texts("jurisdictions", self.jurisdictions))
        object.__setattr__(self, "data_categories", as_texts("data_categories", self.data_categories))
        if not isinstance(self.recipient, str):
            raise TypeError(f"recipient must be text, not {type(self.recipient).__name__}")
        object.__setattr__(self, "age_band", AgeBand(self.age_band))

    def combine(self, other: "Context | None") -> "Context":
        """Returns both together, strictest first: no question can lose what the client's default states.

        The union of jurisdictions and data categories, the younger of the stated age bands, the signal if either
        has it, and the other's recipient if it names one.
        """
        if other is None:
            return self
        stated = [band for band in _YOUNGEST_FIRST if band in (self.age_band, other.age_band)]
        return Context(
            jurisdictions=dict.fromkeys((*self.jurisdictions, *other.jurisdictions)),
            age_band=stated[0] if stated else AgeBand.UNSPECIFIED,
            sec_gpc=self.sec_gpc or other.sec_gpc,
            recipient=other.recipient or self.recipient,
            data_categories=dict.fromkeys((*self.data_categories, *other.data_categories)),
        )
