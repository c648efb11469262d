"""The words that synthetic LaMP questions are made of. Everything here is invented and short; no text is copied.

A list is a comma-separated string; `split` makes it a tuple. What is drawn how often is for
`hare_gym.lamp.synthetic` to say.
"""

from __future__ import annotations


def split(text: str) -> tuple[str, ...]:
    """The parts of a comma-separated text, each without line breaks around it."""
    return tuple(" ".join(part.split()) for part in text.split(","))


# -- papers (tasks 1 and 5) -------------------------------------------------------------------------------------

FIELDS: dict[str, tuple[str, ...]] = {
    name: split(words)
    for name, words in {
        "vision": """image segmentation, object detection, convolutional features, depth maps, visual tracking,
            scene recognition, pixel labels, stereo cameras, optical flow, shape descriptors""",
        "language": """machine translation, word embeddings, sentence parsing, question answering, text summaries,
            dialogue agents, named entities, language models, coreference chains, document classification""",
        "networks": """wireless networks, routing protocols, channel capacity, packet scheduling, sensor nodes,
            congestion control, mobile relays, spectrum sharing, network topologies, link failures""",
        "security": """malware samples, access control, encrypted traffic, intrusion alerts, key exchange,
            privacy leaks, software vulnerabilities, authentication tokens, side channels, anonymous credentials""",
        "robotics": """robot arms, motion planning, grasp stability, legged locomotion, aerial vehicles,
            trajectory tracking, contact forces, swarm formation, inverse kinematics, tactile sensors""",
        "databases": """query plans, index structures, stream processing, transaction logs, graph databases,
            data cleaning, join ordering, key value stores, entity resolution, approximate counting""",
        "theory": """approximation algorithms, sorting networks, graph colouring, circuit bounds, random walks,
            matching problems, submodular functions, communication complexity, planar graphs, online decisions""",
        "health": """medical records, clinical notes, tumour scans, heart signals, patient cohorts,
            drug interactions, gene expression, epidemic curves, hospital readmissions, sleep stages""",
        "recommendation": """user ratings, implicit feedback, cold start items, session clicks, matrix factors,
            bandit exploration, playlist continuation, review texts, ranking losses, item popularity""",
        "systems": """memory caches, operating kernels, cloud workloads, thread scheduling, file systems,
            energy budgets, virtual machines, compiler passes, hardware accelerators, fault recovery""",
        "speech": """speech recognition, speaker voices, acoustic models, music tagging, noise suppression,
            pitch contours, audio events, spoken commands, phone alignments, source separation""",
        "society": """social media, voting records, urban mobility, rumour spreading, online communities,
            survey responses, crowd workers, news consumption, scientific citations, digital inequality""",
    }.items()
}
KINDS: dict[str, tuple[str, ...]] = {
    "theoretical": split("Bounds, Optimality, Complexity, Convergence, Lower Limits, Guarantees"),
    "empirical": split("Experiments, Comparison, Measurements, Evaluation, Benchmarks, Case Studies"),
    "constructive": split("Architecture, Framework, Toolkit, Implementation, Pipeline, Engine"),
    "learned": split("Learning, Neural Models, Training, Representations, Attention, Regularisation"),
    "surveying": split("Survey, Review, Overview, Challenges, Perspectives, Taxonomy"),
}
QUALITIES = split(
    "robust, scalable, sparse, adaptive, hierarchical, fast, interpretable, decentralised, incremental, compact, "
    "probabilistic, unified"
)
METHODS = split(
    "attention networks, kernel methods, graph models, sampling schemes, decision trees, search procedures, "
    "variational inference, spectral clustering, policy gradients, dynamic programs, mixture models, hash sketches"
)
RESOURCES = split(
    "few labels, limited memory, noisy supervision, weak assumptions, shared parameters, cheap hardware, "
    "missing values, delayed rewards"
)
ISSUES = split(
    "concept drift, label noise, high variance, slow convergence, hidden confounding, data scarcity, "
    "unfair errors, poor calibration, exploding costs, distribution shift"
)
GAINS = split(
    "lower error, faster inference, higher recall, better calibration, smaller models, steady improvements, "
    "stronger generalisation, fewer failures"
)
PAPER_REMARKS = split(
    "Prior work has looked at this from several sides, The question has long been open, "
    "Our analysis needs no further assumptions, Code and data will be released, "
    "We discuss limits and open problems, The approach is simple to implement, "
    "Practitioners often rely on heuristics, We relate this to earlier results"
)
TITLE_FRAMES = split(
    "{}, Towards {}, On the Role of {}, {}: A New Approach, Rethinking {}, A Closer Look at {}, "
    "{} Made Practical, {}: Theory and Applications"
)

# -- films (task 2) ---------------------------------------------------------------------------------------------

TAG_HINTS: dict[str, tuple[str, ...]] = {
    name: split(words)
    for name, words in {
        "sci-fi": "spaceship, android, colony, galaxy, laboratory, starship, cyborg, orbit, scientist, robots",
        "based on a book": "novel, chapters, adaptation, narrator, bestselling, page, author, volume, prose, memoir",
        "comedy": "hilarious, mishaps, pranks, wedding, roommates, jokes, awkward, bumbling, misadventures, clumsy",
        "action": "chase, explosion, mercenary, rooftop, heist, gun, helicopter, assassin, showdown, convoy",
        "twist ending": "secret, reveals, mysterious, identity, impostor, clue, truth, disappearance, alibi, mirror",
        "dystopia": "regime, curfew, survivors, rebellion, wasteland, cameras, ration, bunker, totalitarian, wall",
        "dark comedy": "funeral, corpse, absurd, hapless, scheme, satire, undertaker, morbid, blackmail, ransom",
        "classic": "hollywood, legendary, timeless, ballroom, orchestra, masterpiece, velvet, studio, silent, reel",
        "psychology": "therapist, obsession, delusion, patient, trauma, asylum, nightmares, paranoia, memory, mind",
        "fantasy": "wizard, dragon, sword, kingdom, prophecy, enchanted, witch, goblin, amulet, throne",
        "romance": "love, kiss, lovers, passion, letters, engagement, heartbreak, courtship, affair, sunset",
        "thought-provoking": "meaning, existence, consciousness, faith, solitude, moral, doubt, choice, ethics",
        "social commentary": "poverty, inequality, strike, immigrants, slum, corporate, eviction, factory, class",
        "violence": "brutal, revenge, gang, blood, torture, killer, ambush, knife, massacre, feud",
        "true story": "real, biography, historical, events, war, journalist, trial, archive, expedition, inspired",
    }.items()
}
HEROES = split(
    "a retired teacher, two brothers, a young musician, a widowed farmer, an unlucky clerk, a stubborn nurse, "
    "a travelling salesman, three students, a lonely pilot, a village doctor, an ageing boxer, a shy translator"
)
SETTINGS = split(
    "in a small harbour town, during one long winter, on the edge of a desert, in a crowded city, "
    "at the end of summer, between two borders, on a remote island, in the suburbs"
)
FILM_PATTERNS = split(
    "{hero} is caught between {0} and {1} {where}, It begins with {0} and ends with {1} {where}, "
    "{hero} has to choose between {0} and {1} {where}, A story of {0} and {1} {where}, "
    "Nobody thinks of {0} until {hero} learns about {1}, First comes {0} and then comes {1} for {hero}"
)

# -- reviews (task 3) -------------------------------------------------------------------------------------------

PRODUCTS = split(
    "kettle, backpack, headset, desk lamp, novel, blender, board game, jacket, keyboard, water bottle, tent, razor"
)
ASPECTS: dict[str, tuple[str, ...]] = {
    "price": split("price, value, cost"),
    "quality": split("build, material, finish"),
    "delivery": split("delivery, packaging, shipping"),
    "design": split("design, colour, shape"),
    "service": split("support, seller, manual"),
    "use": split("handling, setup, fit"),
}
WORTH: tuple[tuple[str, ...], ...] = (
    split("terrible, awful, useless, a disaster, horrible, beyond repair"),
    split("poor, sloppy, weak, below par, disappointing, not good"),
    split("acceptable, average, as described, neither here nor there, ordinary, all right"),
    split("good, solid, nice, above average, pleasant, not bad"),
    split("excellent, superb, spot on, outstanding, second to none, perfect"),
)
"""Words for a sentiment from worst to best; about half of them are in the reader's lists."""
REVIEW_PATTERNS = split(
    "The {aspect} is {worth}, I find the {aspect} {worth}, As for the {aspect} it is {worth}, {worth} {aspect}"
)
REVIEW_REMARKS = split(
    "I bought this {product} last month, My sister has the same {product}, This is my second {product}, "
    "I use the {product} every day, The {product} was a gift, I compared it with another {product}, "
    "We took the {product} on a trip"
)

# -- news (task 4) ----------------------------------------------------------------------------------------------

DESKS: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    name: (split(who), split(does), split(follows))
    for name, (who, does, follows) in {
        "city": (
            "city council, mayor, housing board, transit agency, planning office",
            "approves new bridge, closes old market, delays tram line, raises parking fees, renames central square",
            "residents fear higher taxes, shop owners lose customers, commuters expect longer trips",
        ),
        "sport": (
            "home team, young striker, national coach, veteran goalkeeper, local club",
            "wins cup final, signs record contract, misses decisive penalty, breaks league record, drops captain",
            "fans demand answers, rivals praise performance, ticket prices climb again",
        ),
        "science": (
            "research team, space agency, ocean survey, university laboratory, climate panel",
            "maps hidden reef, launches weather probe, finds ancient fossil, tests clean fuel, measures melting ice",
            "experts call for caution, textbooks need new chapters, sceptics doubt early data",
        ),
        "money": (
            "central bank, family firm, car maker, online retailer, pension fund",
            "cuts interest rate, buys struggling rival, recalls electric model, opens robot depot, sells state bonds",
            "savers face smaller returns, unions warn about jobs, investors cheer quick decision",
        ),
        "food": (
            "street vendor, celebrity chef, village bakery, organic farm, school kitchen",
            "wins top award, drops sugar from menu, revives forgotten recipe, bans plastic cups, serves bug burgers",
            "regulars queue for hours, critics remain divided, neighbours copy idea",
        ),
        "health": (
            "public clinic, health ministry, nurses union, vaccine panel, sleep institute",
            "shortens waiting lists, warns about heat, refuses night shifts, backs yearly jab, studies shift workers",
            "patients travel further, doctors ask for patience, families welcome change",
        ),
        "travel": (
            "budget airline, island ferry, mountain hotel, railway company, tourist board",
            "adds night route, cancels summer sailings, reopens after fire, scraps paper tickets, counts visitors",
            "travellers rebook in panic, locals enjoy quiet streets, guides look for work",
        ),
        "school": (
            "village school, teachers union, exam board, student council, music academy",
            "bans smartphones, starts later mornings, drops final exam, plants rooftop garden, hires retired pilots",
            "parents want more details, pupils report better sleep, teachers see fewer fights",
        ),
    }.items()
}
NEWS_PLACES = split("Leeds, Porto, Nairobi, Osaka, Lima, Tampere, Quebec, Perth, Gdansk, Austin")
NEWS_MODIFIERS = split(
    "after months of debate, despite loud protest, for first time, before winter, in surprise move, amid high costs, "
    "over weekend, following long inquiry"
)
NEWS_COUNTS = split("cases, complaints, visitors, signatures, jobs, households, incidents, volunteers")
NEWS_REMARKS = split(
    "Officials gave no further comment, A final report is due next spring, Similar plans failed two years ago, "
    "The announcement came late on Tuesday, Several groups have asked for a meeting, Details were first seen online"
)
HEADLINE_FRAMES = split(
    "{}, Why {}, What It Means When {}, {}: What You Need to Know, Here Is How {}, Breaking: {}, "
    "The Truth Behind {}, {} and Nobody Is Surprised"
)

# -- mails (task 6) ---------------------------------------------------------------------------------------------

MATTERS: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    name: (split(matters), split(due), split(asks))
    for name, (matters, due, asks) in {
        "budget": (
            "travel budget, quarterly forecast, vendor invoice, expense report",
            "signed invoice, cost estimate, revised forecast, purchase order",
            "check the totals, approve the payment, confirm the account number",
        ),
        "meeting": (
            "board meeting, weekly call, project kickoff, offsite agenda",
            "meeting notes, final agenda, room booking, slide deck",
            "move the call, send the agenda, book a larger room",
        ),
        "release": (
            "software release, test results, server outage, data migration",
            "bug list, rollback plan, release notes, access request",
            "review the patch, restart the server, test the login page",
        ),
        "hiring": (
            "open position, interview schedule, summer interns, reference letters",
            "candidate ranking, offer letter, interview feedback, job posting",
            "read the applications, call the candidate, update the posting",
        ),
        "contract": (
            "supplier contract, licence renewal, data agreement, office lease",
            "signed contract, legal comments, renewal form, insurance papers",
            "sign the last page, forward the comments, ask the lawyers",
        ),
        "event": (
            "customer visit, trade fair, summer party, training day",
            "guest list, catering order, name badges, travel plans",
            "reserve the tables, print the posters, invite the partners",
        ),
    }.items()
}
PROJECTS = split("north office, pilot group, harbour project, research unit, sales team, web shop, night shift")
DAYS = split("monday, tuesday, wednesday, thursday, friday, next week, end of month")
MAIL_REMARKS = split(
    "Sorry for the short notice, I will be out on Monday, Thanks for your patience, "
    "Let me know if anything is unclear, The numbers are in the shared folder, I have copied the others, "
    "We talked about this in the corridor"
)
SUBJECT_FRAMES = split(
    "{}, Re: {}, FYI: {}, Quick question about {}, {} - action needed, Reminder: {}, Following up on {}, "
    "Urgent request: {}"
)

# -- tweets (task 7) --------------------------------------------------------------------------------------------

MOODS: dict[str, tuple[tuple[str, ...], tuple[str, ...], str]] = {
    name: (split(says), split(about), tag)
    for name, (says, about, tag) in {
        "trains": (
            "I am {much} tired of, I cannot believe, You would {much} hate",
            "the late trains, the crowded platform, another cancelled ride",
            "commute",
        ),
        "cooking": (
            "I am {much} proud of, You have to try, I {much} love",
            "my new soup, this garlic bread, the leftover curry",
            "homecooking",
        ),
        "football": (
            "I am {much} nervous about, You cannot trust, We {much} deserved",
            "the second half, this defence, that late goal",
            "matchday",
        ),
        "work": (
            "I am {much} done with, Nobody told me about, You would not survive",
            "these morning meetings, another spreadsheet, the new office chairs",
            "mondays",
        ),
        "music": (
            "I {much} miss, I am {much} into, You need to hear",
            "the old records, this piano album, that festival set",
            "nowplaying",
        ),
        "weather": (
            "I am {much} sick of, We finally have, You should see",
            "the endless rain, a proper sunset, this ridiculous snow",
            "skywatch",
        ),
        "pets": (
            "My cat {much} hates, My dog is {much} happy about, I am {much} grateful for",
            "the vacuum cleaner, the empty box, a lazy sunday",
            "petlife",
        ),
        "series": (
            "I {much} hated, I am {much} happy with, You have to watch",
            "the last episode, that plot twist, the whole second season",
            "bingewatch",
        ),
    }.items()
}
TIMES = split("today, this morning, right now, since Friday, all week, tonight")
REASONS = split(
    "because the day was long, because nobody listens, because it is worth it, because I waited for hours, "
    "because friends told me, because things never change"
)
OPENERS = split(", ugh, omg, honestly, ok so, lol, not gonna lie, hey folks, friendly reminder")
CLOSERS = split(", smh, tbh, lol, and that is that, just saying, who is with me, send help")
MUCH = split("really, so, super, totally, hella, kinda")
SHORT: dict[str, str] = {
    "because": "cuz",
    "you": "u",
    "cannot": "cant",
    "the": "da",
    "tonight": "2nite",
    "today": "2day",
    "since": "from",
}
