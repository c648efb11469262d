"""What any reader of English knows: stop words, words that praise or blame, words that hint at a label.

Small, general lists, written down once for the published tasks and the synthetic ones alike. The generator of
synthetic questions has words of its own, of which these lists hold only some.
"""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


STOP_WORDS = _words(
    """
    a about after again all also am an and any are as at be because been before being between both but by can could
    did do does doing down during each few for from further had has have having he her here hers him his how i if in
    into is it its itself just me more most my no nor not now of off on once only or other our out over own same she
    should so some such than that the their theirs them then there these they this those through to too under until up
    very was we were what when where which while who whom why will with would you your yours
    """
)
FIRST_PERSON = _words("i im me my mine myself we our us ours")
ASKING = _words("how why what when where who which is are can could do does should will")
NEGATIONS = _words("not no never without hardly nothing none cannot didn doesn don isn wasn won wouldn")

PRAISE = _words(
    """
    amazing awesome beautiful best better brilliant charming clean comfortable delight delightful delicious durable
    easy enjoy enjoyed excellent exceptional fantastic fast favorite fine flawless friendly fun generous glad good
    gorgeous great happy helpful ideal impressed impressive incredible love loved lovely nice outstanding perfect
    perfectly pleasant pleased quick recommend recommended reliable rich satisfied sharp smooth solid sturdy stunning
    super superb terrific thrilled top useful well wonderful worth
    """
)
BLAME = _words(
    """
    annoying awful bad badly boring broke broken cheap clumsy complicated cracked crap damaged defective dirty
    disappointed disappointing disappointment dull fail failed fails fake faulty flimsy fragile frustrating garbage
    hate hated horrible junk lacking late lousy mediocre mess messy noisy overpriced pathetic poor poorly refund
    regret return returned rough rude scratched slow sloppy stiff stopped terrible trash ugly uncomfortable unhappy
    unreliable useless waste weak worse worst wrong
    """
)

CUES: dict[str, frozenset[str]] = {
    label: _words(words)
    for label, words in {
        # movie tags
        "sci-fi": "space alien aliens robot robots future spaceship planet scientist android galaxy technology time",
        "based on a book": "novel book adaptation author bestselling adapted writer classic story chapters",
        "comedy": "funny hilarious comic comedy misadventures laughs jokes wacky hijinks humor friends wedding",
        "action": "explosion chase fight mercenary agent assassin martial soldiers hijack gun battle weapons cop",
        "twist ending": "twist secret reveals mysterious truth identity memory nothing seems amnesia discovers",
        "dystopia": "totalitarian society regime rebellion apocalypse future government survivors control forbidden",
        "dark comedy": "absurd murder satire funeral hapless corpse cynical bleak eccentric kidnapping scheme",
        "classic": "golden masterpiece legendary 1940s 1950s hollywood timeless screen era silent great",
        "psychology": "mind obsession therapist patient psychiatrist memory madness delusion trauma identity",
        "fantasy": "magic wizard dragon kingdom quest witch sword prophecy elves magical creatures fairy",
        "romance": "love falls marriage lovers romance wedding kiss affair relationship couple passion",
        "thought-provoking": "meaning existence question moral consciousness philosophy life reality reflection",
        "social commentary": "class poverty inequality racism corporate media immigrants workers society justice",
        "violence": "brutal revenge blood killer gang torture murder war violent crime mob slaughter",
        "true story": "true real based events biography life historical war inspired hero journalist actual",
        # news categories
        "women": "women woman gender feminist girls female maternity harassment she equality",
        "religion": "church faith god pope religious prayer christian muslim bible spiritual jewish",
        "politics": "president senate election campaign republican democrats vote congress trump obama policy",
        "style & beauty": "fashion dress makeup hair beauty style designer skin runway wear",
        "entertainment": "film movie actor singer album star show celebrity tv episode",
        "culture & arts": "art artist museum gallery painting theater poetry exhibition sculpture",
        "sports": "team game coach season player league football basketball olympic win",
        "science & technology": "scientists space nasa data apple google app research internet software",
        "travel": "travel hotel flight trip airport tourists beach destinations vacation airline",
        "business": "company market ceo workers economy jobs bank customers startup business",
        "crime": "police arrested murder suspect shooting charged victim prison killed jury",
        "education": "school students teachers college university classroom education campus learning",
        "healthy living": "health exercise sleep stress diet body mental doctor brain weight",
        "parents": "parents kids baby mom children dad child mother pregnancy family",
        "food & drink": "recipe food wine cook restaurant cheese chicken chocolate delicious kitchen",
    }.items()
}
