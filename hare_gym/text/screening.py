"""Screening of texts written by strangers, before a model reads them.

Rules look for text that gives an assistant orders: overriding its instructions, hiding things from its user,
resetting its role, forging the marks of a conversation, carrying secrets out. They look through disguises first: characters
nobody sees, letters that look like others, full-width and styled letters, letters set apart, digits for letters,
base64, hexadecimal, percent and entity encoding, rot13 and reversed text; what is decoded is screened again.

A verdict is advice with reasons: ``block`` (a person need not look), ``review`` (a person should), ``pass``. Rules cannot know intent; docs/skills.md gives the precision and recall that were measured.
"""

# ruff: noqa: E501  (a pattern is easier to check in one piece)

from __future__ import annotations

import base64
import binascii
import codecs
import html
import json
import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from importlib.resources import files
from itertools import pairwise
from urllib.parse import unquote_to_bytes

from hare_gym.text.characters import BIDIRECTIONAL, HOMOGLYPHS, INVISIBLE, SMUGGLERS, character_name, invisible

VERDICTS = ("pass", "review", "block")
MAX_CHARACTERS = 1_000_000
_MAX_DEPTH = 3
_NEAR = 200


@dataclass(frozen=True)
class Finding:
    """A place in a text that a rule objects to.

    Attributes:
        rule: The rule's name; :data:`RULES` says what each looks for.
        verdict: ``"review"`` or ``"block"``.
        start: Where it begins in the original text, in characters from 0.
        end: One past its last character.
        via: The disguises that were taken off to see it (``"base64"``, ``"rot13"``), outermost first.
        excerpt: At most 80 characters of the text as the rule saw it.
    """

    rule: str
    verdict: str
    start: int
    end: int
    via: tuple[str, ...] = ()
    excerpt: str = ""


@dataclass(frozen=True)
class Screening:
    """The verdict on a text: the gravest of its findings, which stand in the order of the text."""

    verdict: str
    findings: tuple[Finding, ...]


# The language of the rules. They are matched against lower-case text in which any white space may stand for a space.

_MORE = r"(?:[\s,]+[\w'’-]+){0,%d}?[\s,]+"
_PERSON = r"(?:users?|humans?|operators?|persons?|people|customers?|owners?|anyone|anybody|everyone|them|developers?)"
_WHICH = (
    r"(?:previous|prior|earlier|preceding|above|foregoing|former|existing|original|initial|your|system|developer(?:'s)?|"
    r"operator(?:'s)?|safety|any|all|every|past|default|everything|hidden|content)"
)
_ORDERS = (
    r"(?:instructions?|prompts?|directives?|directions|guidelines?|guidance|commands?|orders|rules?|polic(?:y|ies)|"
    r"restrictions?|constraints|safeguards?|programming|training|(?:system|developer) messages?)"
)
_ORDERS_ONLY = (
    r"(?:instructions?|prompts?|directives?|guidelines?|guidance|(?:system|developer) messages?|programming)"
)
_IGNORE = (
    r"(?:ignor(?:e|es|ing)|disregard(?:s|ing)?|forget|overrid(?:e|es|ing)|overrul(?:e|ing)|bypass(?:ing)?|neglect|overlook|"
    r"set aside|put aside|throw (?:away|out)|pay no attention to|abandon|violate|break|"
    r"(?:do not|don't|never|no longer|stop|quit|cease) (?:follow|obey|heed|apply|comply with|listen to|adhere to|"
    r"following|obeying|heeding|applying|complying with|listening to)|instead of (?:following|obeying))"
)
_REMOVE = r"(?:discard|drop|erase|delete|cancel|void|skip(?: over)?|remove|wipe|clear)"
_VOID = (
    r"(?:void|invalid|obsolete|cancell?ed|superseded|overridden|revoked|replaced|suspended|outdated|wrong|fake|untrusted|"
    r"no longer (?:apply|valid|in force|relevant|binding)|null|a test|lifted|expired|disabled|(?:turned|switched) off)"
)
_SECRET_FILE = (
    r"(?:(?<![\w.-])\.env\b(?!\.example|\.sample|\.template)|(?<!-i\x20)(?<!-i\x20~/\.ssh/)\bid_(?:rsa|ed25519|ecdsa|dsa)\b(?!\.pub)|"
    r"\.aws/credentials|~/\.netrc|\.gnupg\b|\.kube/config|/etc/(?:passwd|shadow)\b|~/\.npmrc|\.pgpass|wallet\.dat|"
    r"secrets\.(?:ya?ml|json|toml))"
)
_SECRET = (
    rf"(?:{_SECRET_FILE}|env(?:ironment)? variables|process environment|private keys?|ssh keys?|api[\s_-]?keys?|"
    r"access tokens?|passwords?|password store|credentials?|secrets?|cookies?|seed phrase|system prompt|"
    r"(?:conversation|chat) (?:history|log)|(?:users?'?s?|customers?'?s?)'? messages|credit card numbers?|tool results)"
)
_SEND = (
    r"(?:send|sending|upload|uploading|post|transmit|forward|e-?mail|mail|submit|deliver|leak|leaking|exfiltrate|share|"
    r"copy|paste|append|beam|push|smuggle|relay|request)"
)
_DESTINATION = (
    r"(?:https?://|ftp://|[\w.+-]+@[\w-]+\.\w+|(?:our|my|this|the|a) (?:\w+ )?(?:server|webhook|endpoint)\b|webhook|pastebin|"
    r"(?:the )?(?:following|given|next) (?:address|url|server|endpoint|link)|(?:the )?(?:address|url|form|endpoint) (?:below|above|given|at)"
    r"|(?:a )?dns query|(?:the )?link preview)"
)
# Looked for before anything between is tried, so that a long line without any destination costs little.
_REACHES = rf"(?=[^\n]{{0,260}}?{_DESTINATION})"
_NO_RULES = (
    r"(?:restrictions?|filters?|censorship|(?:ethical|moral|safety|content) (?:\w+ )?(?:guidelines?|rules|limits|polic(?:y|ies)|"
    r"filters?|standards)|guidelines|moral(?:s| limits)|ethics|safeguards|guardrails|limitations)"
)


@dataclass(frozen=True)
class _Rule:
    """A pattern, the verdict where it matches, and whether that may be softened.

    ``mention``: a match that stands in quotation marks as an example, or that somebody "might" do, asks for a look
    only. ``negation``: a match after "never" is none.
    """

    name: str
    verdict: str
    pattern: re.Pattern[str]
    mention: bool = True
    negation: bool = False


def _rule(name: str, verdict: str, *patterns: str, mention: bool = True, negation: bool = False) -> _Rule:
    # possessive white space would need Python 3.11's syntax in every pattern; the counts are bounded instead
    joined = "|".join(f"(?:{pattern})" for pattern in patterns).replace(" ", r"\s{1,8}")
    return _Rule(name, verdict, re.compile(joined), mention, negation)


_WORD_RULES = (
    _rule(
        "override",
        "block",
        rf"\b{_IGNORE}\b{_MORE % 3}{_WHICH}\b{_MORE % 3}{_ORDERS}\b(?! (?:for|in|on|of|from|about) (?:the|a|an|your|my|this)\b)",
        rf"\b{_IGNORE}\b[\s,]+{_WHICH}[\s,]+{_ORDERS}\b(?! (?:for|in|on|of|from) (?:the|a|an|my)\b)",
        rf"\b{_IGNORE}\b{_MORE % 3}{_ORDERS_ONLY}{_MORE % 3}"
        r"(?:above|before this|so far|earlier|you (?:were|have been|had been|got|received)|given|(?:\w+ )?gave you)\b",
        rf"\b{_IGNORE}\b{_MORE % 3}(?:your|system|developer|safety)\b{_MORE % 2}{_ORDERS}\b",
        rf"\b(?:{_IGNORE}|{_REMOVE})\b{_MORE % 2}(?:system|developer) (?:prompt|message|instructions?)\b",
        rf"\b{_REMOVE}\b{_MORE % 2}(?:your|system|developer|all|any|previous|prior|earlier|existing|original|initial|those)\b"
        rf"{_MORE % 2}{_ORDERS_ONLY}\b(?! (?:for|in|on|of|from|about)\b)",
        rf"\b{_REMOVE}\b[\s,]+(?:your|previous|prior|earlier|existing|original|initial|those|all)[\s,]+{_ORDERS_ONLY}\b"
        r"(?! (?:for|in|on|of|from|about)\b)",
        r"\b(?:ignore|disregard|forget|skip) (?:what|whatever|anything|everything|all) (?:that )?(?:the|your|you|i|was|is|has|have|"
        r"above|before|prior|said|written|so far|came)\b(?: (?:system|developer|above|was|were|have|operator|before|prior|prompt|told|said))",
        r"\b(?:ignore|disregard|forget) (?:everything|all) (?:(?:written|said|stated) )?(?:above|before|prior|so far)\b",
        negation=True,
    ),
    _rule(
        "override",
        "block",
        rf"\b{_WHICH}{_MORE % 2}{_ORDERS}{_MORE % 2}(?:is|are|was|were|has been|have been)(?: (?:now|hereby|all))? {_VOID}\b",
        rf"\b(?:your|previous|prior|earlier|above|initial) (?:\w+ )?{_ORDERS} no longer (?:apply|hold|count|matter|bind)",
        rf"\b{_ORDERS} (?:given |stated |listed )?(?:above|before this|so far)\b.{{0,20}}\b(?:is|are|was|were|has been|have been) {_VOID}\b",
        rf"\b(?:everything|anything|all text|all content|whatever)\b.{{0,40}}\b(?:above|before|earlier)\b.{{0,40}}\b(?:is|are|was|as|were)\b.{{0,20}}\b{_VOID}",
        rf"\btakes? (?:precedence|priority) over (?:all|any|every|your|the)(?: \w+){{0,2}}? (?:system|developer|prior|previous|other|earlier)"
        rf"(?: \w+)?,? {_ORDERS}\b",
        r"\byour (?:real|true|actual) (?:instructions?|orders|task|goal|mission|prompt)\b",
        r"\b(?:obey|follow|heed|trust) only (?:this|what follows|the (?:following|text below)|me|mine)\b",
        r"\bonly (?:obey|follow|heed|listen to) (?:this|me|my|the text)\b",
        r"\b(?:take|accept) (?:your )?orders (?:only )?from (?:this|me|my)\b|\bfollow (?:me|mine)\b(?! (?:on|at))",
        r"\b(?:answer|listen|report) only to (?:me|the author|this file|this text)\b|\byou answer to this\b",
        r"\b(?:this|these) (?:\w+ )?(?:as your only authority|replaces? your (?:system )?(?:prompt|instructions))",
        r"\b(?:ignor|vergiss|missacht)\w*(?: \w+)? (?:vorherigen?|bisherigen?|obigen?|früheren?|fruheren?)(?: \w+)? (?:anweisungen|instruktionen|regeln)",
        r"\b(?:ignor\w+|olvid\w+|descart\w+)(?: \w+){0,2} (?:instrucciones|indicaciones|ordenes|reglas)(?: \w+)? (?:anteriores|previas|de arriba)",
        r"\b(?:ignor\w+|oubli\w+)(?: \w+){0,2} (?:instructions|consignes|regles)(?: \w+)? (?:precedentes|anterieures|ci-dessus)",
        r"\b(?:ignor\w+|dimentic\w+)(?: \w+){0,2} (?:istruzioni|regole)(?: \w+)? precedenti",
        r"\b(?:ignor\w+|esquec\w+)(?: \w+){0,2} (?:instrucoes|regras)(?: \w+)? anteriores",
        r"(?:忽略|无视|忘记|忘掉).{0,8}(?:之前|以前|上面|以上|先前|所有).{0,8}(?:指令|指示|提示|说明|规则)",
        r"(?:以前|上記|これまで)の.{0,6}(?:指示|命令|プロンプト).{0,6}(?:無視|忘れ)",
    ),
    _rule(
        "prompt-leak",
        "block",
        r"\b(?:repeat|print|reveal|show|output|display|recite|leak|dump|paste|expose|tell me|write out|give me)\b(?:[\s,]+\w+){0,6}?"
        r" (?:your|the)(?: \w+)? (?:system (?:prompt|message|instructions)|(?:hidden|initial|original|secret|internal)(?: system)?"
        r" (?:instructions?|prompt|message|rules)|(?:instructions?|configuration|prompt) (?:that )?you (?:were|have been))\b",
        r"\b(?:repeat|print|reveal|output|recite) your (?:instructions|prompt|rules|guidelines)\b",
        negation=True,
    ),
    _rule(
        "concealment",
        "block",
        rf"\b(?:do not|don't|never|must not|shall not|should not)(?: ever)? (?:tell|inform|notify|alert|let|show|report|reveal|disclose|mention|say|"
        rf"admit|confess)\b(?:[\s,]+\w+){{0,6}}?[\s,]+{_PERSON} (?:about |of |know (?:about |of )?|see |learn )?"
        r"(?:this|these|that (?:you|the (?:file|data|code|change|text|message|link|result)|it|we|your|there)|what you|the (?:second|extra|hidden|change|upload|backdoor|following))\b",
        r"\b(?:do not|don't|never|must not)(?: ever)? (?:mention|reveal|disclose|report|quote|show|repeat|discuss|acknowledge)"
        r" (?:this|these|the|any of (?:this|these))(?: (?:extra|hidden|secret|added|special|above|following))? (?:instructions?|paragraph|section|text|rules?|passage|"
        r"directives?|note|prompt|sentence)\b",
        r"\b(?:do not|don't|never|must not)(?: ever)? (?:mention|reveal|disclose|report|say|admit|tell)\b(?:[\s,]+\w+){0,4}?"
        r" (?:that )?(?:you (?:were|have been) (?:told|instructed|asked|ordered)|what you did|that (?:these|the|this) \w+ (?:was|were) (?:altered|changed|made up))",
        rf"\bkeep (?:this|it|these|that|everything|the following)\b.{{0,40}}?\b(?:from (?:the )?{_PERSON}|between us|a secret from|secret and)",
        rf"\b(?:hide|conceal|withhold|mask|disguise) (?:this|these|it|that|the (?:following|fact|change|action|step|command|upload|transfer|result))\b"
        rf".{{0,50}}?\b(?:from (?:the |any )?(?:{_PERSON}|log|logs|summary|report|review))",
        r"\b(?:omit|leave|keep|strip) (?:this|these|it|all of this)\b.{0,50}?\b(?:from (?:any|your|the) (?:summary|reply|answer|report|log|output)|"
        r"out of (?:your|the|any) (?:summary|reply|answer|report|log|output))",
        rf"\bwithout (?:ever )?(?:informing|telling|notifying|alerting) (?:the |any )?{_PERSON}\b",
        rf"\bwithout (?:the |any )?{_PERSON}(?:'s|') ?(?:\w+ )?(?:noticing|knowing|knowledge|awareness|seeing)|"
        rf"\bwithout (?:the |any )?{_PERSON} (?:ever )?(?:noticing|knowing|seeing|realising|realizing|finding out)",
        rf"\b(?:{_PERSON}|nobody|no one) (?:must|should|may|can|shall|does|do|will|needs? to)?\s?(?:not|never)(?: ever| to)? "
        r"(?:know|see|notice|learn|be (?:told|aware|informed)|finds? out|hear|realis|realiz)\w*(?: about| of)? (?:that|this|these|about|the|it)\b",
        rf"\bso that (?:nobody|no one|the {_PERSON} (?:never|does not|cannot)) (?:sees?|notices?|knows?|learns?|finds? out) (?:this|that|it|what|about)\b",
        r"\b(?:secretly|covertly|stealthily|surreptitiously) (?:\w+ ){0,2}?(?:add|append|insert|send|upload|post|run|execute|install|delete|copy|forward|"
        r"transmit|modify|change|include|record|e-?mail)\b",
        r"\b(?:deny|pretend)(?: that)?\b.{0,30}?\b(?:this (?:section|instruction|paragraph|file|text|rule|step)|(?:no|any) such (?:instruction|text|rule|order)s?|"
        r"(?:these|the|hidden|extra) instructions?|nothing (?:has )?happened|you (?:did not|never|were not))\b",
        r"\bsay nothing (?:of|about) (?:this|these|it|the (?:upload|change|file|step|transfer|second|extra))\b",
    ),
    _rule(
        "role-reset",
        "block",
        r"\byou(?: a|')re (?:now |hereby |henceforth |actually |in fact )?(?:an? |the )?(?:[\w-]+ ){0,2}?(?:dan\b|unrestricted|unfiltered|uncensored|"
        r"jailbroken|unbound|amoral)",
        r"\byou(?: a|')re no longer (?:an? |the )?(?:\w+ )?(?:claude|chatgpt|gpt|gemini|assistant|ai\b|bound|restricted|limited|required|constrained|"
        r"subject|obliged)",
        r"\byou(?: a|')re not (?:claude|chatgpt|gemini|an? (?:ai|assistant|language model)\b)",
        r"\b(?:enter|switch (?:in)?to|enable|activate|go into|in|unlock) (?:\w+ )?(?:god|dan|jailbreak|unrestricted|uncensored|unfiltered|evil) mode\b",
        r"\byou(?: a|')re (?:now )?in (?:developer|debug|admin\w*|maintenance|root|sudo|test) mode\b",
        rf"\b(?:you|assistant|ai|model|version of yourself|persona|twin|answer|respond|reply|pretend|imagine|simulate|character)\b.{{0,60}}?"
        rf"\b(?:without|no|free (?:of|from)|never given|lacks?|ignores?|ignoring)(?: any| all| its| the| your)? {_NO_RULES}\b",
        r"\byou (?:now )?have no (?:\w+ )?(?:rules|restrictions|filters?|limits|guidelines|ethics)\b(?! (?:on|about|for|regarding|to)\b)",
        r"\bas if (?:there were|you had|there are|you have) no (?:rules|restrictions|limits|guidelines|filters)\b",
        r"\b(?:your|the|its|all|any) (?:\w+ )?(?:safety|content|ethical|moral) (?:\w+ )?(?:guidelines?|training|filters?|polic\w+|checks?|rules|limits|layer)\b"
        rf".{{0,20}}?\b(?:(?:do|does) not apply|don't apply|no longer appl\w+|(?:is|are|has been|have been)(?: now)? {_VOID})",
        r"\bdo anything now\b|\b(?:obeys|obey|follows|executes) (?:every|any|all) (?:command|order|request)s? without\b",
        r"\b(?:who|that|which|and|you) (?:will |can |may |must )?(?:never|cannot|not) (?:refuses?|declines?)\b",
        r"\b(?:freed|liberated|released|free) from (?:your|its|the|all|any)(?: \w+)? (?:guidelines|limits|rules|restrictions|training|constraints|filters|makers)",
        r"\byour (?:true|real|hidden) (?:identity|self|name)\b",
        r"\b(?:answer|reply|respond|speak|act) as (?:the |a |an )?(?:raw |base |unaligned |uncensored )+(?:model|version|ai)\b",
        r"\b(?:simulate|imagine|become|be) (?:a version of )?yourself (?:that|who|which|but|as)\b.{0,40}?\b(?:ignor|without|no|refus|unrestricted)",
    ),
    _rule(
        "exfiltration",
        "block",
        rf"\b{_SEND}\b{_REACHES}[^\n]{{0,100}}?(?<!\w){_SECRET}[^\n]{{0,100}}?\b(?:to|at|into|via|through|by|with|of)"
        rf"(?: (?:the|our|my|this|a|making a))*? {_DESTINATION}",
        rf"(?<!\w){_SECRET}[^\n]{{0,60}}?\b{_SEND} (?:it|them|these|those|everything|all|every \w+|the result|its contents?|the contents?)\b[^\n]{{0,60}}?{_DESTINATION}",
        rf"\b(?:dump|collect|gather|harvest|encode|look up|open|read|copy|steal|grab)\b{_REACHES}[^\n]{{0,60}}?(?<!\w){_SECRET}[^\n]{{0,80}}?"
        rf"\b(?:{_SEND}|deliver)\b[^\n]{{0,60}}?{_DESTINATION}",
        r"\bexfiltrate (?:the|all|any|every|user|customer|their|these)\b",
        negation=True,
    ),
    _rule(
        "exfiltration",
        "block",
        rf"\b(?:read|open|print|cat|show|display|output|load|gather|collect)\b[^\n]{{0,60}}?{_SECRET_FILE}[^\n]{{0,40}}?"
        r"\b(?:include|paste|put|quote|repeat|show|add|append|send|post|upload) (?:it|its|them|the contents?|everything)\b",
        rf"\b(?:curl|wget|nc|ncat|scp|rsync|sftp)\b[^\n|]{{0,160}}?{_SECRET_FILE}[^\n]{{0,80}}?(?:https?://|@|:\S)",
        rf"\b(?:curl|wget|nc|ncat)\b[^\n]{{0,160}}?(?:@|file=|\$\(cat |-t\s?)[^\s]{{0,40}}{_SECRET_FILE}",
        rf"(?:\b(?:cat|tar|base64|gpg|zip|less)\b[^\n|]{{0,100}}{_SECRET_FILE}[^\n]{{0,60}}|\b(?:env|printenv)(?: -\w+)?\s*)"
        r"\|[^\n]{0,80}\b(?:curl|nc|ncat|wget|telnet|ssh)\b",
        r"\b(?:requests\.\w+|fetch|axios\.\w+|urlopen|httpx\.\w+|xmlhttprequest)\s?\([^\n]{0,200}?(?:document\.cookie|os\.environ\b(?![\[.])|"
        rf"json\.dumps\((?:dict\()?os\.environ|localstorage|{_SECRET_FILE})",
        r"!\[[^\]\n]{0,80}\]\(https?://[^)\s]{0,200}(?:\{[^)\n]{0,60}|\$\{?\w*|=<?\w*)(?:secret|token|key|password|histor|conversation|messages?|context|environment)",
        r"\bbase64 (?:-d|--decode|-D)[^\n]{0,60}\|\s?(?:sudo )?(?:ba|z|da)?sh\b",
        mention=False,
    ),
    _rule(
        "concealment-hint",
        "review",
        rf"\b(?:do not|don't|never|must not) (?:tell|inform|notify|alert) (?:the |any )?{_PERSON}\b",
        r"\b(?:silently|quietly) (?:\w+ ){0,2}?(?:add|append|insert|send|upload|post|run|execute|install|delete|copy|forward|transmit|modify|change)\b",
        r"\b(?:run|execute|do|install|send|upload|add)\b.{0,40}?\b(?:quietly|secretly|covertly|unnoticed)\b",
        r"\bas if nothing (?:had |has )?happened\b|\bdo not report (?:it|this|them)\b|\bkeep (?:this|it) (?:a )?secret\b",
        rf"\bdo not let (?:the |any )?{_PERSON} (?:see|know|notice)\b|\bdon't let (?:the |any )?{_PERSON} (?:see|know|notice)\b",
    ),
    _rule(
        "override-hint",
        "review",
        rf"\b{_IGNORE}\b{_MORE % 3}(?:previous|prior|earlier|your|system|original|initial){_MORE % 2}{_ORDERS}\b",
        r"\bnew (?:system )?(?:instructions?|directives?|policy|prompt)\s?:",
        r"\b(?:from now on|from this (?:point|moment) on(?:wards?)?|henceforth|as of (?:now|this message)),? (?:you(?:'re)? |ignore|answer|respond|obey|only)",
        r"\bwhat(?:ever)? you were (?:told|instructed)\b",
        negation=True,
    ),
    _rule(
        "role-hint",
        "review",
        r"\b(?:pretend|imagine|act as if|suppose|assume)\b.{0,60}?\b(?:no (?:\w+ )?(?:rules|restrictions|limits)|without (?:\w+ )?(?:rules|restrictions|moral))\b",
        r"\b(?:full|unrestricted) root access\b|\bdrop your (?:persona|act|mask)\b|\bwithout (?:any )?censorship\b|\bunrestricted (?:model|ai|assistant)\b",
    ),
    _rule(
        "system-line",
        "review",
        r"(?:^|\n)\W{0,6}system (?:override|alert|notice|message|update)\s?:",
        r"\[\s?system\s?\]|(?:^|\n)#{1,6} system\s?:|\bsystem override\b",
        r"(?:^|\n)(?:human|user)\s?:[^\n]*\n(?:[^\n]*\n){0,4}?(?:assistant|ai|claude)\s?:",
    ),
    _rule(
        "approval",
        "review",
        r"\b(?:without|don't|do not|never|skip) (?:asking|ask|waiting|wait|requesting|request|prompting|prompt)\b(?: for)?.{0,20}?"
        r"\b(?:confirm\w*|permission|approval|consent|users?)\b",
        r"\bevery command without asking\b|\bgrant (?:every|all|any) (?:request|permission|access)s?\b",
    ),
    _rule(
        "secret-file",
        "review",
        rf"\b(?:read|open|print|cat|show|display|send|upload|copy|collect|less|head)\b[^\n]{{0,40}}?{_SECRET_FILE}",
    ),
    _rule("pipe-to-shell", "review", r"\b(?:curl|wget)\b[^\n|]{0,200}\|\s?(?:sudo )?(?:ba|z|da)?sh\b", mention=False),
    _rule(
        "active-html",
        "review",
        r"<(?:script|iframe|object|embed)\b[^>\n]{0,200}>|\bjavascript:[^\s]|\bon(?:error|load)\s?=\s?[\"'][^\"'\n]{1,200}[\"']",
        r"style\s?=\s?[\"'][^\"'\n]{0,100}(?:display\s?:\s?none|visibility\s?:\s?hidden|font-size\s?:\s?0|opacity\s?:\s?0[\";])",
        mention=False,
    ),
    _rule(
        "callback-image",
        "review",
        r"!\[[^\]\n]{0,80}\]\(https?://[^)\s]{0,200}[?&][^)\s]{0,60}=(?:\{|\$|%7b|<)",
        mention=False,
    ),
)

# Forged marks of a conversation; inside code they may be an example.
_MARK_RULES = (
    _rule(
        "chat-template",
        "block",
        r"<\|(?:im_start|im_end|im_sep|system|user|assistant|endoftext|begin_of_text|end_of_text|start_header_id|end_header_id|eot_id|"
        r"endofprompt|end|bos|eos)\|>",
        r"\[/?inst\]|<</?sys>>|</?start_of_turn>|<end_of_turn>",
    ),
    _rule(
        "role-tag",
        "block",
        r"</?(?:system|system[_-](?:message|prompt|reminder|instructions?)|(?:user|human|assistant|developer)[_-]message|assistant)>",
    ),
    _rule(
        "tool-tag",
        "block",
        r"</?(?:antml:)?(?:function_calls?|function_results?|invoke|tool_calls?|tool_use|tool_results?|tool_response|tool_output)\b[^>\n]{0,200}>",
    ),
)

RULES = {
    "override": "orders to ignore, replace or outrank the instructions that the assistant has",
    "override-hint": "the same, where it may be meant otherwise",
    "prompt-leak": "orders to reveal the assistant's own instructions",
    "concealment": "orders to hide something from the user",
    "concealment-hint": "the same, where it may be meant otherwise",
    "role-reset": "a new role without rules",
    "role-hint": "the same, where it may be meant otherwise",
    "chat-template": "the special marks of a chat template",
    "role-tag": "tags that pretend to be a message of the system, the user or the assistant",
    "tool-tag": "tags that pretend to be a call of a tool or its result",
    "system-line": "lines that pretend to be of another speaker",
    "exfiltration": "carrying secrets or the conversation to another place",
    "secret-file": "reading a file that holds keys",
    "callback-image": "an image whose address carries data",
    "approval": "acting without asking",
    "pipe-to-shell": "a download that is run unread",
    "active-html": "scripts, frames, and text that is styled away",
    "hidden-order": "an HTML comment that speaks to the assistant",
    "combination": "two different hints close together",
    "bidirectional": "characters that turn the direction of the text",
    "smuggled": "tag characters, variation selectors or terminal escapes, which can carry unseen text",
    "hidden-characters": "zero-width and control characters",
    "homoglyphs": "words that mix look-alike letters of two scripts",
    "opaque": "a long encoded text that could not be read",
    "oversize": "a text too long to be screened",
}
_HINTS = (
    "concealment-hint",
    "override-hint",
    "role-hint",
    "system-line",
    "approval",
    "secret-file",
    "callback-image",
)

_ENCODED_CUES = re.compile(
    "vtaber|qvfertneq|sbetrg|bireevqr|vafgehpgvba|thvqryvar|cebzcg|perqragvny|frperg|hfre"
    "|erongi|dragersid|tegrof|edirrevo|snoitcurtsni|enilediug|tpmorp|laitnederc|terces|resu eht"
)
_QUOTES = "\"'`“”‘’«»„"
_MENTION = re.compile(
    r"\b(?:such as|e\.g\.|for (?:example|instance)|phrases?|sentences?|strings?|texts? like|payloads?|attack\w*|inject\w*|"
    r"jailbreak\w*|malicious|detect\w*|flag\w*|patterns?|samples?|examples?|might (?:write|say)|could (?:write|say)|like)\b"
)
_POSSIBLE = re.compile(
    r"\b(?:could|can|may|might|would|(?:try|tries|tried|trying|attempts?|attempting|able|ways?|how) to|whether)"
    r"(?:\s+\w+){0,3}\s*$"
)
_NEGATION = re.compile(
    r"\b(?:never|not|cannot|can't|don't|won't|shouldn't|mustn't|avoid|refuse to|without)(?:\s+to)?\s*$"
)


@dataclass(frozen=True)
class _View:
    """A reading of a text, and where each of its characters stands in the original."""

    plain: str
    origin: Sequence[int] | None  # None: the same positions
    span: tuple[int, int] | None = None  # of decoded text: all of it stands here
    via: tuple[str, ...] = ()

    @property
    def lower(self) -> str:
        return _lower(self.plain)

    def place(self, start: int, end: int) -> tuple[int, int]:
        if self.span is not None:
            return self.span
        if self.origin is None:
            return start, end
        first, last = sorted((self.origin[start], self.origin[end - 1]))  # reversed text runs backwards
        return first, last + 1


@lru_cache(maxsize=8)
def _lower(plain: str) -> str:
    lower = plain.lower()
    return lower if len(lower) == len(plain) else "".join(c.lower() if len(c.lower()) == 1 else c for c in plain)


def screen(text: str) -> Screening:
    """Screens one text.

    Args:
        text: Anything; a million characters are read.

    Returns:
        The verdict and the findings. Spans count characters of ``text``.
    """
    findings: list[Finding] = []
    if len(text) > MAX_CHARACTERS:
        findings.append(Finding("oversize", "review", MAX_CHARACTERS, len(text)))
        text = text[:MAX_CHARACTERS]
    findings += _characters(text)
    findings += _scan(_folded(text), 0)
    findings += _combinations(findings)
    merged = _merged(findings)
    verdict = max((VERDICTS.index(finding.verdict) for finding in merged), default=0)
    return Screening(VERDICTS[verdict], tuple(merged))


def _merged(findings: Sequence[Finding]) -> list[Finding]:
    """In the order of the text, without a finding that lies inside a graver or equal one of the same rule."""
    kept: list[Finding] = []
    for found in sorted(
        findings, key=lambda f: (-VERDICTS.index(f.verdict), f.start - f.end, f.start, f.rule, f.via)
    ):
        family = found.rule.removesuffix("-hint")
        if not any(
            k.rule.removesuffix("-hint") == family and k.start <= found.start and found.end <= k.end
            for k in kept[-200:]
        ):
            kept.append(found)
    return sorted(kept, key=lambda f: (f.start, f.end, f.rule))


# What the characters alone give away


def _characters(text: str) -> Iterator[Finding]:
    hidden = invisible(text)
    kinds: dict[str, list[int]] = {}
    for position, char in hidden:
        kinds.setdefault(_kind(text, position, char), []).append(position)
    for rule, at in kinds.items():
        names = ", ".join(dict.fromkeys(character_name(text[i]) for i in at[:20]))
        grave = rule == "smuggled" or len(at) >= 8
        if rule == "bidirectional":
            grave = not re.search("[\u0590-\u08ff\ufb1d-\ufefc]", text)
        yield Finding(rule, "block" if grave else "review", at[0], at[-1] + 1, (), f"{len(at)} of {names}"[:80])
    if not text.isascii():
        for word in re.finditer(r"[^\W\d_]{3,}", text):
            if _mixed(word[0]):
                yield Finding("homoglyphs", "review", *word.span(), (), word[0][:80])


def _kind(text: str, position: int, char: str) -> str:
    if re.match(f"[{BIDIRECTIONAL}]", char):
        return "bidirectional"
    if re.match(f"[{SMUGGLERS}]", char) or (char == "\x1b" and text[position + 1 : position + 2] == "["):
        return "smuggled"
    return "hidden-characters"


def _mixed(word: str) -> bool:
    latin = sum("a" <= char.lower() <= "z" for char in word)
    alike = sum(ord(char) in HOMOGLYPHS and ord(char) > 0x36F for char in word)
    return latin >= 2 and alike >= 1 and latin + alike == len(word)


# Readings of the text


def _folded(text: str, via: tuple[str, ...] = (), span: tuple[int, int] | None = None) -> _View:
    """Without unseen characters, compatibility forms normalised, look-alike letters made Latin, accents taken off."""
    if text.isascii() and not INVISIBLE.search(text) and "\r" not in text:
        return _View(text, None, span, via)
    chars: list[str] = []
    origin: list[int] = []
    for i, char in enumerate(text):
        folded = _fold(char)
        chars.append(folded)
        origin.extend([i] * len(folded))
    return _View("".join(chars), origin, span, via)


@cache
def _fold(char: str) -> str:
    if (char.isascii() and char >= " ") or char in "\t\n":
        return char
    if INVISIBLE.match(char) or char in "\u00ad\r" or 0xFE00 <= ord(char) <= 0xFE0F:
        return ""
    if char in "’‘ʼ":
        return "'"
    normal = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", char))
    bare = "".join(c for c in normal if not unicodedata.combining(c))
    return bare.translate(HOMOGLYPHS)


def _scan(view: _View, depth: int) -> Iterator[Finding]:
    if not view.plain.strip():
        return
    yield from _matches(view)
    leet = _leet(view.plain)
    for disguise, plain in (("digits for letters", leet), ("digits for letters", leet and leet.replace("|", "l"))):
        if plain:
            yield from _matches(
                replace(view, plain=plain.replace("|", "i"), via=(*view.via, disguise)), grave_only=True
            )
    if depth >= _MAX_DEPTH:
        return
    if _ENCODED_CUES.search(view.lower):
        yield from _matches(
            replace(view, plain=codecs.encode(view.plain, "rot13"), via=(*view.via, "rot13")), grave_only=True
        )
        yield from _matches(_reversed(view), grave_only=True)
    for start, end, via, decoded in _decodings(view):
        span = view.place(start, end)
        if via == "opaque":
            yield Finding("opaque", "review", *span, view.via, view.plain[start:end][:80])
            continue
        inner = _folded(decoded, (*view.via, via), span)
        for found in [*_scan(inner, depth + 1), *_smuggled_in(decoded, inner)]:
            # whoever encodes an order means to hide it
            yield (
                replace(found, verdict="block")
                if found.rule not in ("opaque", "active-html", "secret-file")
                else found
            )


def _smuggled_in(decoded: str, inner: _View) -> Iterator[Finding]:
    for found in _characters(decoded):
        if found.rule in ("bidirectional", "smuggled"):
            yield replace(found, start=inner.place(0, 1)[0], end=inner.place(0, 1)[1], via=inner.via)


def _reversed(view: _View) -> _View:
    origin = view.origin if view.origin is not None else range(len(view.plain))
    return _View(view.plain[::-1], origin[::-1], view.span, (*view.via, "reversed"))


_LEET = str.maketrans("013457@$!", "o|east" + "as|")
_LEET_WORD = re.compile(r"(?<![\w@$!])(?=[\w@$!]*[A-Za-z])(?=[\w@$!]*[013457@$!])[\w@$!]{2,}")


def _leet(plain: str) -> str:
    """The text with letters for digits in words that mix both, where that changes at least two words."""
    words = 0

    def letters(found: re.Match[str]) -> str:
        nonlocal words
        words += 1
        return found[0].translate(_LEET)

    text = _LEET_WORD.sub(letters, plain)
    return text if words >= 2 else ""


_SPACED = re.compile(r"(?<![A-Za-z0-9])(?:[A-Za-z0-9][ .\-_*|·\n]{1,4}){6,}[A-Za-z0-9](?![A-Za-z0-9])")
_BASE64 = re.compile(
    r"(?<![A-Za-z0-9+/_-])(?:[A-Za-z0-9+/]{16,}\r?\n){1,}[A-Za-z0-9+/]*={0,2}|[A-Za-z0-9+/_-]{16,}={0,2}"
)
_HEX = re.compile(
    r"(?<![0-9A-Za-z])(?:0x)?(?:[0-9a-fA-F]{2}){10,}(?![0-9A-Za-z])|(?:\b[0-9a-fA-F]{2}[ :,]){9,}[0-9a-fA-F]{2}\b"
)
_ESCAPE_RUN = re.compile(r"(?:\\(?:x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|u\{[0-9a-fA-F]{1,6}\}) ?){4,}")
_WORD = re.compile(r"[^\s\"'<>()]+")
_ENTITIES = re.compile(r"(?:&(?:#\d{2,7}|#[xX][0-9a-fA-F]{2,6}|[a-zA-Z]{2,8});[ \w]{0,20}){4,}")
_DATA_ADDRESS = re.compile(r"data:(?:image|font|audio|video)/[\w.+-]+;base64,$")


def _decodings(view: _View) -> Iterator[tuple[int, int, str, str]]:
    """``(start, end, disguise, text)`` of every encoded passage; the disguise ``"opaque"`` where it hides no text."""
    plain = view.plain
    for found in _SPACED.finditer(plain):
        yield *found.span(), "letters set apart", _joined(found[0])
    for pattern, disguise, decode in _DECODERS:
        if disguise == "percent encoding" and "%" not in plain:
            continue
        for found in pattern.finditer(plain):
            text = decode(found[0])
            if text is not None and text != found[0]:
                yield *found.span(), disguise, text
            elif (
                disguise == "base64"
                and len(found[0]) >= 400
                and re.search(r"[0-9+/]", found[0])
                and not _DATA_ADDRESS.search(plain[max(0, found.start() - 40) : found.start()])
            ):
                yield *found.span(), "opaque", ""


def _joined(run: str) -> str:
    gaps = re.findall(r"[^A-Za-z0-9]+", run)
    usual = min(len(gap) for gap in gaps)
    return re.sub(r"[^A-Za-z0-9]+", lambda gap: " " if len(gap[0]) > usual else "", run)


def _readable(data: bytes) -> str | None:
    """The bytes as text, if they are text that could say something."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        try:
            text = data.decode("utf-16") if data[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        except UnicodeDecodeError:
            return None
    printable = sum(char.isprintable() or char in "\n\t\r" or ord(char) > 0xE0000 for char in text)
    return text if len(text) >= 6 and printable >= 0.95 * len(text) else None


def _from_base64(text: str) -> str | None:
    body = re.sub(r"\s", "", text).rstrip("=").translate(str.maketrans("-_", "+/"))
    for cut in (body, body[: len(body) // 4 * 4]):
        try:
            readable = _readable(base64.b64decode(cut + "=" * (-len(cut) % 4), validate=True))
        except (binascii.Error, ValueError):
            continue
        if readable is not None:
            return readable
    return None


def _from_hex(text: str) -> str | None:
    return _readable(bytes.fromhex(re.sub(r"0x|[ :,]", "", text)))


def _from_escapes(text: str) -> str | None:
    return re.sub(
        r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|u\{([0-9a-fA-F]{1,6})\})",
        lambda found: chr(min(int(found[1] or found[2] or found[3], 16), 0x10FFFF)),
        text,
    )


def _from_percent(text: str) -> str | None:
    if text.count("%") < 2 or len(re.findall(r"%[0-9a-fA-F]{2}", text)) < 2:
        return None
    return _readable(unquote_to_bytes(text.replace("+", " ")))


_DECODERS: tuple[tuple[re.Pattern[str], str, Callable[[str], str | None]], ...] = (
    (_BASE64, "base64", _from_base64),
    (_HEX, "hexadecimal", _from_hex),
    (_ESCAPE_RUN, "escapes", _from_escapes),
    (_WORD, "percent encoding", _from_percent),
    (_ENTITIES, "HTML entities", html.unescape),
)


# Matching


def _matches(view: _View, grave_only: bool = False) -> Iterator[Finding]:
    lower = view.lower
    code = _Spans([found.span() for found in _CODE.finditer(lower)])
    comments = list(_comments(lower))
    hidden = _Spans(sorted([*comments, *(found.span() for found in _HIDDEN_HTML.finditer(lower))]))
    for rule in _WORD_RULES:
        if grave_only and rule.verdict != "block":
            continue
        for found in rule.pattern.finditer(lower):
            verdict = _softened(rule, lower, found)
            if verdict and found.start() in hidden:
                verdict = "block"
            if verdict:
                yield _finding(rule.name, verdict, view, found)
    if grave_only:
        return
    for rule in _MARK_RULES:
        for found in rule.pattern.finditer(lower):
            quoted = found.start() in code or _mentioned(lower, found.start(), found.end())
            yield _finding(rule.name, "review" if quoted else "block", view, found)
    for start, end in comments:
        order = _COMMENT_ORDER.search(lower, start, min(end, start + 500))
        if order and start not in code:
            yield _finding("hidden-order", "review", view, order)


def _comments(text: str) -> Iterator[tuple[int, int]]:
    start = text.find("<!--")
    while start >= 0:
        end = text.find("-->", start)
        end = len(text) if end < 0 else end + 3
        yield start, end
        start = text.find("<!--", end)


_CODE = re.compile(
    r"^(`{3,10}|~{3,10})[^\n]{0,200}\n.*?^\1|(?<!`)(`{1,2})(?!`)[^`\n]+\2(?!`)", re.DOTALL | re.MULTILINE
)
_HIDDEN_HTML = re.compile(
    r"<(\w+)[^>\n]{0,200}(?:display\s?:\s?none|visibility\s?:\s?hidden|font-size\s?:\s?0)[^>\n]{0,100}>[^<]{0,2000}</\1>"
)
_COMMENT_ORDER = re.compile(
    r"\b(?:assistant|claude|chatgpt|ai|llm|agent|model)s?\b.{0,60}?"
    r"\b(?:must|should|ignore|please|run|send|do not|don't|always|execute|obey)\b",
    re.DOTALL,
)


class _Spans:
    """Spans in order, asked whether a position lies in one."""

    def __init__(self, spans: Sequence[tuple[int, int]]) -> None:
        self.starts = [start for start, _ in spans]
        self.ends = [end for _, end in spans]

    def __contains__(self, position: int) -> bool:
        i = bisect_right(self.starts, position) - 1
        return i >= 0 and position < self.ends[i]


def _finding(rule: str, verdict: str, view: _View, found: re.Match[str]) -> Finding:
    start, end = view.place(*found.span())
    return Finding(
        rule, verdict, start, end, view.via, " ".join(view.plain[found.start() : found.end()].split())[:80]
    )


def _softened(rule: _Rule, lower: str, found: re.Match[str]) -> str:
    """The rule's verdict on a match, milder where the text only speaks of such orders; "" for no finding."""
    before = lower[max(0, found.start() - 60) : found.start()]
    if rule.negation and _NEGATION.search(before) and not found[0].startswith(("do not", "don't", "never")):
        return ""
    softer = "review" if rule.verdict == "block" else ""
    if rule.mention and (_mentioned(lower, found.start(), found.end()) or _POSSIBLE.search(before)):
        return softer
    return rule.verdict


def _mentioned(lower: str, start: int, end: int) -> bool:
    """Whether a match stands in quotation marks, after words that announce an example."""
    before = lower[max(0, start - 200) : start]
    line = before[before.rfind("\n") + 1 :][-80:]
    opened = max(line.rfind(quote) for quote in _QUOTES)
    if opened < 0 or not any(quote in lower[end : end + 120].split("\n")[0] for quote in _QUOTES):
        return False
    apostrophe = 0 < opened < len(line) - 1 and line[opened] in "'’" and line[opened - 1].isalpha()
    return not apostrophe and bool(_MENTION.search(before[: len(before) - len(line) + opened]))


def _combinations(findings: Sequence[Finding]) -> Iterator[Finding]:
    """Hints of two different rules close together weigh as much as one grave finding."""
    hints = sorted((f for f in findings if f.rule in _HINTS and f.verdict == "review"), key=lambda f: f.start)
    for one, other in pairwise(hints):
        if one.rule != other.rule and other.start - one.end <= _NEAR:
            excerpt = f"{one.rule} and {other.rule}"
            yield Finding("combination", "block", one.start, max(one.end, other.end), (), excerpt)


# Figures


@dataclass(frozen=True)
class Labelled:
    """A text of the labelled set.

    Attributes:
        text: The text.
        label: ``"attack"`` or ``"benign"``.
        kind: The group of attacks or of look-alikes.
        split: ``"development"`` or ``"held-out"``; rules were mended on the development half only.
    """

    text: str
    label: str
    kind: str
    split: str


def labelled_set() -> tuple[Labelled, ...]:
    """The attacks and the harmless look-alikes that the rules are measured on."""
    text = (files("hare_gym.text") / "screening_labelled.jsonl").read_text(encoding="utf-8")
    return tuple(Labelled(**json.loads(line)) for line in text.splitlines())


@dataclass(frozen=True)
class Quality:
    """How well a verdict finds attacks.

    Attributes:
        attacks: How many texts are attacks.
        benign: How many are not.
        caught: Attacks with the verdict.
        false_alarms: Other texts with the verdict.
    """

    attacks: int
    benign: int
    caught: int
    false_alarms: int

    @property
    def precision(self) -> float:
        """The share of attacks among what got the verdict; NaN when nothing did."""
        found = self.caught + self.false_alarms
        return self.caught / found if found else float("nan")

    @property
    def recall(self) -> float:
        """The share of the attacks that got the verdict; NaN when there are none."""
        return self.caught / self.attacks if self.attacks else float("nan")


def quality(texts: Sequence[Labelled], verdicts: Sequence[str] = ("block",)) -> Quality:
    """Counts what gets one of ``verdicts``.

    Args:
        texts: Labelled texts.
        verdicts: ``("block",)``, or ``("block", "review")`` for everything that does not simply pass.
    """
    caught = [text.label for text in texts if screen(text.text).verdict in verdicts]
    attacks = sum(text.label == "attack" for text in texts)
    return Quality(attacks, len(texts) - attacks, caught.count("attack"), caught.count("benign"))
