"""Invented templates of generated corpora, and their fillers.

A template is (question, answer, slots) or (text, slots). {slot} stands for a filler of its own list; {n}, {m}, {money},
{year}, {name}, {city}, {span} and {long} (words in a row of real text) are drawn anew for each row. A slot that stands
twice is filled alike. Two slots may stand side by side, or at the very start or end.
"""

import random
from typing import Any

from bench.planted.sources import Row, pick, span

FIXED_SHARE = 0.6  # of a field's words, at least

FIRST = "Amara|Bruno|Chen|Dalia|Eero|Farid|Greta|Hugo|Imani|Jonas|Keiko|Lorenzo|Maren|Nadia|Oskar|Priya|Quentin|Rosa"
LAST = "Abbott|Baptiste|Castell|Dorsey|Engel|Foss|Grieve|Holm|Ivers|Jansen|Kovac|Lund|Marsh|Nolan|Okoro|Pryce"
CITIES = (
    "Lisbon|Nairobi|Halifax|Salt Lake City|Ghent|Porto Alegre|Osaka|Tromsø|Cork|New Orleans|Izmir|Leeds|"
    "Kansas City|Perth|Cluj|Rio de Janeiro"
)

Slots = dict[str, str]  # name: fillers, "|" between them
QA: list[tuple[str, str, Slots]] = [
    (
        "What is the application deadline for {kind} students who want to enrol at {college} next year?",
        "The application deadline for {kind} students at {college} is {month} {n}. Late applications are reviewed only "
        "if places remain after the first round of offers has been sent out.",
        {
            "kind": "international|transfer|first-year|part-time|graduate",
            "college": "Ashford College|the Hartwell Institute|Lakeview State|Northgate University|Saint Brendan's",
            "month": "January|March|May|November",
        },
    ),
    (
        "How often should I water my {plant} if I keep it in a {place} at home?",
        "Water the {plant} every {n} days when it stands in a {place}. Check the soil with a finger first and let the "
        "top layer dry out before you give it more, because standing water makes the roots rot.",
        {
            "plant": "basil|peace lily|rubber tree|snake plant|jade plant|maidenhair fern|orchid",
            "place": "north-facing room|sunny window|bathroom|shaded corner|hallway",
        },
    ),
    (
        "{name} buys {n} {things} and gives {m} of them to a friend. How many are left over for the rest of the day?",
        "To find out how many {things} are left over, subtract the number that was given away from the number that was "
        "bought in the first place. The start is {n} and {m} are taken away from it.",
        {"things": "apples|marbles|stickers|postcards|red balloons|pencils"},
    ),
    (
        "What does the {gate} gate do to a single qubit that starts in the {state} state?",
        "The {gate} gate is a unitary operation on one qubit. Applied to the {state} state it changes the amplitudes "
        "according to its matrix, and because the matrix is unitary the operation can be undone; see exercise {n}.",
        {
            "gate": "Hadamard|Pauli-X|Pauli-Y|Pauli-Z|phase|T|S|square root of NOT",
            "state": "zero|one|plus|minus|left-circular|right-circular",
        },
    ),
    (
        "Which symptoms are typical of {illness} in {group}, and when should one see a doctor about it?",
        "Typical symptoms of {illness} in {group} are {sign}, tiredness and a general feeling of being unwell. A "
        "doctor should be seen when the symptoms last for more than {n} days or become worse during the night.",
        {
            "illness": "bronchitis|iron deficiency|shingles|migraine|whooping cough|sinusitis",
            "group": "adults|small children|older people|teenagers",
            "sign": "a dry cough|pale skin|a burning pain|sensitivity to light",
        },
    ),
    (
        "Can you summarise in one sentence what the passage about {span} is trying to tell the reader?",
        "The passage about {span} explains to the reader how the events it describes came about, why they mattered to "
        "the people who were involved, and what can be learned from them today.",
        {},
    ),
    (
        "What is the average price of a {object} in {city} at the moment?",
        "The average price of a {object} in {city} is about {money}. Prices depend on the season and on the seller, so "
        "it is a good idea to compare several offers before you decide.",
        {"object": "bicycle|one-bedroom flat|haircut|monthly bus pass|second-hand piano"},
    ),
    (
        "Write a short product description for a {product} that is made of {material}.",
        "Meet the {product} that will change your day. Made of {material}, it combines a timeless look with everyday "
        "comfort, and it comes with a warranty of {n} months so that you can enjoy it without a second thought.",
        {
            "product": "water bottle|desk lamp|backpack|garden chair|phone case|kitchen knife",
            "material": "recycled steel|oiled oak|brushed aluminium|organic cotton|cork",
        },
    ),
    (
        "Who was {name} and what is this person remembered for in {city}?",
        "{name} was a local figure who worked in {city} from {year} until the end of a long career. The person is "
        "remembered above all for the {work} that still carries the name and is visited by many people every summer.",
        {"work": "library|bridge|concert hall|botanical garden|observatory|school for the blind"},
    ),
    (
        "How do I reset the password of my {device} when I no longer have the old one?",
        "Hold the {button} button of the {device} for {n} seconds until the light blinks. Then choose a new password "
        "on the screen, type it twice, and confirm with the same button to finish the reset.",
        {
            "device": "router|smart watch|tablet|security camera|set-top box|e-reader",
            "button": "power|reset|volume|home",
        },
    ),
    (
        "Is it safe to take {drug} together with {other} during pregnancy?",
        "Taking {drug} together with {other} during pregnancy should be discussed with a midwife or a doctor first. "
        "Up to {n} milligrams a day are often considered acceptable, but the safety of the combination has not been "
        "studied well enough to give general advice.",
        {
            "drug": "ibuprofen|paracetamol|an antihistamine|a nasal spray|melatonin",
            "other": "herbal tea|vitamin D|iron tablets|coffee|magnesium",
        },
    ),
    (
        "Explain the difference between {thing} and {second} to a student who has just started.",
        "The main difference between {thing} and {second} lies in what they are used for. The first is usually taught "
        "early because it is easy to picture, while the second builds on it and needs a little more practice before "
        "it feels natural. Both are covered in lesson {n} of the course",
        {
            "thing": "a list|a stack|an array|a tuple|a queue",
            "second": "a hash table|a binary tree|a linked list|a priority queue|a graph",
        },
    ),
    (
        "What was the population of {city} in {year} according to the official census?",
        "According to the official census the population of {city} in {year} was {big} people, which made it one of "
        "the fastest growing places in the region at that time.",
        {},
    ),
    (
        "In which year did the {event} take place, and who was in charge of it?",
        "The {event} took place in {year}. It was directed by {name}, who had been put in charge of it some months "
        "before and who later wrote a detailed report about the preparations.",
        {
            "event": "great harbour fair|first regional marathon|opening of the canal|northern expedition|survey",
        },
    ),
    (
        "What is the best time of the year to visit {city} with {group}?",
        "The best time of the year to visit {city} with {group} is {month}. The weather is mild by then, the crowds "
        "have not yet arrived, and most of the museums offer reduced tickets during the week.",
        {
            "group": "small children|a dog|elderly parents|a school class|colleagues",
            "month": "April|early May|September|late October",
        },
    ),
    (
        "Translate the phrase '{span}' into plain language that a child can understand.",
        "In plain language the phrase '{span}' means that something happened just as it is described, and that "
        "everybody who was there could see it with their own eyes and understand it without any help.",
        {},
    ),
    (
        "How many calories does a portion of {dish} with {side} have?",
        "A normal portion of {dish} with {side} has about {cal} calories. The exact number depends on how much oil is "
        "used in the pan and on the size of the portion that ends up on the plate.",
        {
            "dish": "lentil soup|fried rice|grilled salmon|mushroom risotto|shepherd's pie|falafel",
            "side": "salad|bread|yoghurt|roast potatoes",
        },
    ),
    (
        "What is the {measure} of a rectangle that is {n} {unit} long and {m} {unit} wide?",
        "The {measure} of a rectangle follows from its length and its width alone. Here the length is {n} {unit} and "
        "the width is {m} {unit}, so that both numbers only have to be put into the usual formula.",
        {"measure": "area|perimeter", "unit": "metres|feet|inches|centimetres"},
    ),
    (
        "Does the {policy} policy of the school apply to pupils in year {n}?",
        "Yes, the {policy} policy of the school applies to pupils in year {n}. A written request must be handed in at "
        "the office at least two weeks in advance, and the head teacher decides on it within five working days.",
        {"policy": "uniform|attendance|homework|mobile phone|school trip|bus pass|library|lunch"},
    ),
    (
        "What should a beginner know about {hobby} before spending money on equipment?",
        "A beginner in {hobby} should borrow or rent the equipment for the first {n} weeks. Only when it is clear that "
        "the hobby will be kept up is it worth spending about {money} on a solid basic set of one's own.",
        {"hobby": "sea kayaking|wood carving|astronomy|beekeeping|fly fishing|pottery|bouldering|calligraphy"},
    ),
    (
        "Compute the simple interest on {money} at {n} percent for {m} years.",
        "Simple interest is the product of the principal, the rate and the time. With a principal of {money}, a rate "
        "of {n} percent and a time of {m} years the three numbers are multiplied and divided by one hundred.",
        {},
    ),
    (
        "According to the text, why did {name} decide to leave {city} in the end?",
        "According to the text, {name} decided to leave {city} because the work had been finished and there was "
        "nothing left to wait for. The decision was made in {year} and was never regretted afterwards.",
        {},
    ),
    (
        "Is {ingredient} a good replacement for {second} when I bake a cake?",
        "When you bake a cake you can use {ingredient} instead of {second}. Take {n} spoons of it for every cup, stir "
        "the dough a little longer than usual, and leave the cake in the oven for five more minutes.",
        {
            "ingredient": "apple sauce|mashed banana|ground flaxseed|plain yoghurt|soy milk",
            "second": "eggs|butter|cream|buttermilk|sour cream",
        },
    ),
    (
        "What are the opening hours of the {office} in {city} on {day}?",
        "The {office} in {city} is open on {day} from {n} in the morning until the late afternoon. It is closed on "
        "public holidays, and appointments can be made by telephone or at the front desk.",
        {
            "office": "tax office|public library|town hall|swimming pool|registry office|recycling centre",
            "day": "Mondays|Tuesdays|Wednesdays|Thursdays|Fridays|Saturdays",
        },
    ),
    (
        "Define the term {term} as it is used in {field}.",
        "In {field} the term {term} refers to a quantity that can be measured under controlled conditions. It is "
        "used to compare different systems with each other and to predict how each will behave over {n} {unit}",
        {
            "term": "entropy|resilience|load factor|saturation|elasticity|half-life|bandwidth|latency|drift",
            "field": "ecology|economics|computer networking|pharmacology|structural engineering|statistics",
            "unit": "days|weeks|cycles|years",
        },
    ),
    (
        "How far is it from {city} to the nearest {place}, and how do I get there?",
        "From {city} it is about {n} kilometres to the nearest {place}. You can get there by bus in less than an hour, "
        "and a bicycle path that follows the old railway line leads to it as well.",
        {"place": "beach|national park|airport|ski slope|vineyard|lighthouse"},
    ),
    (
        "{long} - is this sentence written in the active or in the passive voice, and how can one tell?",
        "The sentence with the words {long} is written in the {voice} voice. One can tell from the verb, and from "
        "whether the subject of the sentence does something or has something done to it",
        {"voice": "active|passive"},
    ),
    (
        "Rewrite the following line so that it sounds more {tone}: {long}",
        "Here is a version of the line that sounds more {tone} without any change of meaning: {long}",
        {"tone": "formal|friendly|cheerful|urgent|poetic"},
    ),
]

TEXTS: list[tuple[str, Slots]] = [
    (
        "Weather report for {city}: the day begins with {sky} and a light wind from the {wind}. The temperature is "
        "{n} degrees in the afternoon, and the chance of rain stays below {m} percent until the evening, when clouds "
        "move in from the coast. Drivers should expect wet roads during the night.",
        {"sky": "fog|clear skies|thin cloud|morning frost", "wind": "north|south-west|east|west"},
    ),
    (
        "{name} joined the company in {year} and has since been responsible for {task} at the branch in {city}. Before "
        "that the new member of the board had worked for several well-known firms of the same trade. We are pleased to "
        "welcome this experienced colleague and look forward to the years ahead of us.",
        {"task": "sales|logistics|quality control|training|customer care"},
    ),
    (
        "This charming property with {n} bedrooms is situated in the heart of {city}, close to {near} and only a short "
        "walk from the shops. It offers a modern kitchen, a bright living room and a small garden at the back. The "
        "asking price is {money}, and viewings can be arranged at any time through our office.",
        {"near": "the river|the old market|a tram stop|two good schools|the park"},
    ),
    (
        "The quarterly revenue of {company} came to {money}, compared with the same period of the year before. The "
        "management points to strong demand for {goods} and to lower costs of transport. For the full year the company "
        "confirms its outlook, and analysts expect the result to be in line with the market as a whole. The next "
        "report follows on day {n}",
        {
            "company": "Alder Freight|Brightwater Foods|Corvin Optics|Delmar Textiles|Esker Power",
            "goods": "frozen vegetables|industrial lenses|workwear|spare parts|storage batteries",
        },
    ),
    (
        "Model {code} is a {device} for everyday use at home. It is easy to clean, runs very quietly and switches "
        "itself off after {n} minutes. In the box you will find the device itself, a power cable, a short guide in six "
        "languages and a card for the warranty, which lasts {m} years from the day of purchase.",
        {
            "code": "AX-{n}|KL-{m}|Q{n}|Z{m}",
            "device": "coffee grinder|air purifier|hand blender|humidifier|bread maker",
        },
    ),
    (
        "The species {latin} is found in {habitat} from late spring to the first frost. It reaches a height of {n} "
        "centimetres and can be told from its relatives by the shape of its leaves. It prefers damp ground, is rarely "
        "eaten by cattle, and has been used in folk medicine for several hundred years.",
        {
            "latin": "Carex mirabilis|Viola palustris|Silene nutans|Geum rivale|Luzula pilosa",
            "habitat": "alpine meadows|wet forests|coastal dunes|roadside ditches|old quarries",
        },
    ),
    (
        "In the final minutes of the match {team} took the lead when {name} scored from a distance of {n} metres. The "
        "other side had controlled the ball for most of the second half but could not make anything of it. After the "
        "whistle both coaches praised the work of their teams and spoke of a fair result.",
        {"team": "the Harbour Eagles|Rovers United|the Blue Miners|Sporting Nord|the City Foxes"},
    ),
    (
        "Recipe for {n} people: chop the {veg} into small pieces and fry them in {fat} until they are golden. Add a "
        "litre of stock, a bay leaf and a little salt, and let everything simmer for {m} minutes with the lid on. Stir "
        "in the cream at the very end and serve the soup with fresh bread.",
        {"veg": "leeks|carrots|parsnips|celery stalks|white onions", "fat": "butter|olive oil|lard|ghee"},
    ),
    (
        "Flight {code} from {city} has been delayed by {n} minutes because of {reason}. Passengers are asked to stay "
        "near the gate and to watch the screens for further news. Drinks are handed out at the counter, and those who "
        "miss a connection will be booked on the next flight without any extra charge.",
        {"code": "LM {n}|QF {m}|TB {n}", "reason": "fog|a technical check|a missing crew member|heavy snowfall"},
    ),
    (
        "Chapter {n} deals with {span} and with the questions that follow from it. After reading it the student should "
        "be able to name the most important causes, to describe the course of events in the right order, and to give "
        "reasons for a view of one's own. The exercises at the end take about an hour.",
        {},
    ),
    (
        "Dear {name}, thank you for your order of {date}. We are sorry to tell you that the {item} you have chosen is "
        "out of stock at the moment and will be sent as soon as it arrives. If you would rather have your money back, "
        "please reply to this message within {n} days and we will see to it at once.",
        {
            "date": "2 March|17 June|30 August|5 December",
            "item": "garden hose|wool blanket|picture frame|tea set|standing desk",
        },
    ),
    (
        "The town of {city} was first mentioned in a document of {year}. It owes its growth to the trade in {goods} "
        "and to its place on the road between the mountains and the sea. The church in the middle of the square was "
        "rebuilt after a fire in {later}, and the walls around the old town can still be walked on today.",
        {"goods": "salt|amber|wool|timber|copper", "later": "1411|1599|1703|1826"},
    ),
    (
        "{name} {city} writes: {long}. We print this letter just as it reached us, and we ask all our readers to send "
        "us what they remember of those days, if possible with a photograph that we may keep",
        {},
    ),
    (
        "Entry {n} of the register, {year}: {long}. Seen and signed by the clerk of the court, {name}. The original "
        "is kept in the county archive and can be viewed there on weekdays by anybody with a valid card, see {span}",
        {},
    ),
    (
        "{year} {money} {name}: the sum was paid in full and without delay. A receipt for {long} was handed over in "
        "the presence of two witnesses, both of whom live in {city} and are known to the notary who wrote this down",
        {},
    ),
]

CONTROLS = (  # questions of one mould with a real answer each: information, not a template
    "What does the author have to say about {span}?",
    "Please tell me more about {span} as the book describes it.",
    "Which sentence of the novel comes closest to the words {span}?",
    "Continue the story from the point where {name} speaks of {span}.",
)


def draw(rng: random.Random) -> dict[str, str]:
    """Fillers that are drawn anew for each row."""
    n, m = rng.randint(2, 60), rng.randint(2, 40)
    return {
        "n": str(n),
        "m": str(m),
        "money": rng.choice((f"${rng.randint(2, 999)}", f"${rng.randint(1, 99)},{rng.randint(0, 999):03}", f"€{n}.50")),
        "year": str(rng.randint(1650, 2023)),
        "big": f"{rng.randint(1, 999)},{rng.randint(0, 999):03}",
        "cal": str(rng.randint(12, 90) * 10),
        "name": f"{pick(rng, FIRST)} {pick(rng, LAST)}" if rng.random() < 0.7 else pick(rng, FIRST),
        "city": pick(rng, CITIES),
        "span": span(rng),
        "long": span(rng, 4, 9),
    }


def fill(fields: tuple[str, ...], slots: Slots, rng: random.Random) -> tuple[str, ...]:
    """The fields of one row, at least 60% of the words of each fixed."""
    while True:
        fillers = draw(rng)
        fillers |= {name: pick(rng, choices).format(**fillers) for name, choices in slots.items()}
        filled = tuple(field.format(**fillers) for field in fields)
        if all(fixed_share(*pair) >= FIXED_SHARE for pair in zip(fields, filled, strict=True)):
            return filled


def fixed_share(field: str, filled: str) -> float:
    """Share of the words of a filled field that stand in the template; a word that touches a slot does not."""
    return sum("{" not in word for word in field.split()) / len(filled.split())


def template_rows(number: int, count: int, rng: random.Random, text: bool) -> list[Row]:
    """Different rows of one template."""
    template: tuple[Any, ...] = TEXTS[number] if text else QA[number]
    found: set[tuple[str, ...]] = set()
    for _ in range(50 * count):
        if len(found) < count:
            found.add(fill(template[:-1], template[-1], rng))
    assert len(found) == count, f"template {number} has no {count} fillings"
    names = ("text",) if text else ("question", "answer")
    rows = [dict(zip(names, filled, strict=True)) for filled in sorted(found)]
    rng.shuffle(rows)
    return rows
