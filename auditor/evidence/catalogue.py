"""The controls that evidence is about: numbers and titles of ISO/IEC 27001:2022, Annex A, and for each group what this tool shows.

No text of the standard stands here beyond the titles. What the tool cannot know is named with who has to supply it.
"""

from typing import Final, NamedTuple

TITLES: Final = {
    "5.3": "Segregation of duties",
    "5.14": "Information transfer",
    "5.15": "Access control",
    "5.16": "Identity management",
    "5.17": "Authentication information",
    "5.18": "Access rights",
    "5.24": "Information security incident management planning and preparation",
    "5.25": "Assessment and decision on information security events",
    "5.26": "Response to information security incidents",
    "5.27": "Learning from information security incidents",
    "5.28": "Collection of evidence",
    "5.29": "Information security during disruption",
    "5.30": "ICT readiness for business continuity",
    "5.31": "Legal, statutory, regulatory and contractual requirements",
    "5.33": "Protection of records",
    "5.34": "Privacy and protection of personal identifiable information (PII)",
    "5.35": "Independent review of information security",
    "5.36": "Compliance with policies, rules and standards for information security",
    "5.37": "Documented operating procedures",
    "8.2": "Privileged access rights",
    "8.3": "Information access restriction",
    "8.5": "Secure authentication",
    "8.6": "Capacity management",
    "8.8": "Management of technical vulnerabilities",
    "8.9": "Configuration management",
    "8.10": "Information deletion",
    "8.11": "Data masking",
    "8.13": "Information backup",
    "8.15": "Logging",
    "8.16": "Monitoring activities",
    "8.17": "Clock synchronization",
    "8.20": "Networks security",
    "8.21": "Security of network services",
    "8.24": "Use of cryptography",
    "8.28": "Secure coding",
    "8.29": "Security testing in development and acceptance",
    "8.32": "Change management",
}

_ORGANISATION: Final = "the organisation"
_FEED_OPERATOR: Final = "whoever operates the feed"
_SIDECAR_OPERATORS: Final = "whoever operates the sidecars"
_LATER: Final = "a later version of Consentry"


class SectionSpec(NamedTuple):
    """A group of controls that the same facts are evidence for.

    Attributes:
        slug: Name in files and links.
        controls: Their numbers.
        shows: What the section shows, one sentence.
        open_points: What no version of this data can say, and who has to.
    """

    slug: str
    controls: tuple[str, ...]
    shows: str
    open_points: tuple[tuple[str, str], ...] = ()


def _spec(controls: str, shows: str, *open_points: tuple[str, str]) -> SectionSpec:
    """A section; `controls` are numbers, or the first and the last of a row of them."""
    first, dash, last = controls.partition("-")
    every = list(TITLES)
    numbers = every[every.index(first) : every.index(last) + 1] if dash else controls.split()
    return SectionSpec(controls.replace(" ", "_"), tuple(numbers), shows, open_points)


SECTIONS: Final = (
    _spec(
        "5.3",
        "Who approved each policy and override, and whether anybody used privileges that two people must share.",
        ("Which person holds which key, and who may hold two roles", _ORGANISATION),
        ("Roles of people who sign in (OIDC)", _LATER),
    ),
    _spec(
        "5.14 8.20 8.21",
        "How each connection of the sidecars is protected, as their own start records say, and the certificates given to this tool.",
        ("Network segmentation, firewalls and the transfer agreements around the system", _ORGANISATION),
        ("TLS settings of the feed: it records none of its own settings", _FEED_OPERATOR),
    ),
    _spec(
        "5.15 8.3",
        "Who may say and ask what, and which calls and requests were refused.",
        ("The rule that decides who is to have access, and its approval", _ORGANISATION),
        ("Listeners and rights set at the feed: it records none of its own settings", _FEED_OPERATOR),
    ),
    _spec(
        "5.16-5.18",
        "The life of technical identities: sidecars enrolled and retired, keys of sources and approvers.",
        ("Joiners, movers and leavers among people, and how their credentials are handed over", _ORGANISATION),
        ("Scheduled access reviews inside the system", _LATER),
    ),
    _spec(
        "5.24-5.30",
        "Interruptions that the record itself shows: silent sidecars, crashes, decisions denied for operational reasons.",
        ("How events were assessed, answered and learned from", _ORGANISATION),
        ("Continuity plans and their exercises", _ORGANISATION),
    ),
    _spec(
        "5.31",
        "How long each opt-out took from its arrival to being in force at every sidecar, against legal deadlines.",
        ("Which laws apply, and public holidays: business days here are Monday to Friday", _ORGANISATION),
        ("What systems that ask no sidecar did with the data", _ORGANISATION),
        ("Requests that never reached the feed, such as unread post", _ORGANISATION),
    ),
    _spec(
        "5.33",
        "That the records are complete and unchanged: the log's tree, and every chain of every journal with its signed heads.",
        ("Retention periods that the law demands", _ORGANISATION),
        ("Copies outside: archives, backups and whoever can reach them", _FEED_OPERATOR),
    ),
    _spec(
        "5.34 8.11",
        "Which personal data each part holds and in which form, and a search for identifiers in clear.",
        ("Records of processing, legal bases and impact assessments", _ORGANISATION),
        ("Identifiers in systems outside, such as the services that ask", _ORGANISATION),
        ("Intake web pages and what they collect", _LATER),
    ),
    _spec(
        "5.35 5.36",
        "Checks that were run for this evidence, and their findings.",
        ("Independent reviews and their reports", _ORGANISATION),
        ("Scheduled internal checks with their closure", _LATER),
    ),
    _spec(
        "5.37",
        "The operating procedures that were supplied.",
        ("That the procedures are known and followed", _ORGANISATION),
    ),
    _spec(
        "8.2 8.5",
        "Every use of a privilege at the feed, and who was given keys and identifiers to read records with.",
        ("Who had a shell on a host, or a key in hand, outside of these programs", _ORGANISATION),
        ("Which person stands behind the name of a Unix socket's listener: a socket shows none", _ORGANISATION),
        ("Sign-in of people with a second factor (OIDC)", _LATER),
    ),
    _spec(
        "8.6",
        "How the log and the journals grow, and when most decisions were asked for.",
        ("Limits of the machines, volumes and collectors", _SIDECAR_OPERATORS),
    ),
    _spec(
        "8.8 8.28",
        "The bill of materials and the vulnerability report that were supplied.",
        ("How found vulnerabilities were judged and closed", _ORGANISATION),
    ),
    _spec(
        "8.9 8.32",
        "The settings that each sidecar started with, what changed between starts, weak modes, and every change of the policy.",
        ("Settings of the feed: it records none of its own", _FEED_OPERATOR),
        ("Why a change was made, and its test before it was made", _ORGANISATION),
    ),
    _spec(
        "8.10",
        "Persons erased from the log, and journal segments disposed of after their retention.",
        ("Deletion in archives, backups and systems outside", _ORGANISATION),
    ),
    _spec(
        "8.13",
        "Backups asked for at the feed, and the restore drill that was supplied.",
        ("Where backups lie and who can reach them", _FEED_OPERATOR),
    ),
    _spec(
        "8.15",
        "What is logged, samples of it with proofs, every gap, and who exported or read the records.",
        ("Logs of hosts, proxies and other systems", _ORGANISATION),
    ),
    _spec(
        "8.16",
        "Alerts of the system, when they began and when they were over.",
        ("Who looked at each alert and what they did", _ORGANISATION),
        ("Alerts of the monitoring outside (metrics, dashboards)", _SIDECAR_OPERATORS),
    ),
    _spec(
        "8.17",
        "How far the clocks of the sidecars were from that of the feed.",
        ("Time sources of the hosts, and how they are watched", _SIDECAR_OPERATORS),
    ),
    _spec(
        "8.24",
        "Every key that counts, with its kind, its validity and the last entry that it may have signed.",
        ("Where private keys and key-encryption keys are kept, and who can use them", _ORGANISATION),
    ),
    _spec(
        "8.29",
        "The conformance run that was supplied.",
        ("Acceptance tests of the installation", _ORGANISATION),
    ),
)
"""In the order of the first control. Changing one changes docs/evidence.md."""
