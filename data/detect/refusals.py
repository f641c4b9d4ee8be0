"""Talk of a machine in place of an answer: refusals, words about itself as an assistant, courtesy around an answer.

In: an answer, or a text (in which people may say "I am sorry, but I cannot"). Out: a span, and words that say which.

    first 200 characters of an answer   any refusal (data/detect/grammar.py)
    sentences of whatever text          a refusal that speaks of a question, a task, a policy; of now, not of the past
    whatever place of whatever text     talk as a machine
    both ends of an answer              courtesy (data/detect/courtesy.py)

What somebody says in a text, in quotation marks or as a speaker in a dialogue, is part of it and counts nowhere.
"""

import re
from collections.abc import Iterable, Iterator

from data.detect import grammar
from data.detect.courtesy import find_courtesy
from data.detect.markup import Span, is_code
from data.detect.speech import is_said
from data.detect.wording import Words, cut_words, plainly, word_set

Search = tuple[re.Pattern[str], str]
HEAD, HEAD_WORDS = 200, 70  # characters of an answer in which a refusal begins, and words
SHORT_TEXT = 60  # words, below which a text may be a machine's role as a whole
SHRUG_LENGTH = 60  # characters
EDGE = 30  # words of an end of a text, which its first or last sentence holds
SENTENCE = 300  # characters of a sentence before and behind its topic, at most

# Cheap tests: the searches take 0.05 ms an answer, and most answers hold none of these words.
_I = word_set("i i'm i'd i've i'll we we're")
_AM = word_set("i'm am")
_MY = word_set("i i'm i've my me us we")
_NOT = word_set(
    "cannot can't unable not decline refuse refrain abstain won't rather don't lack no didn't couldn't doesn't isn't "
    "wouldn't haven't hasn't shan't neither incapable forbidden prohibited prevented restricted barred blocked "
    "prefer pass nope"
)
_MILD = word_set("not don't no only didn't doesn't isn't haven't hasn't wouldn't")  # tells nothing by itself
_STRONG = _NOT - _MILD
_NOT_WHAT = word_set(
    "able allowed permitted authorized authorised comfortable capable equipped qualified programmed designed trained "
    "position willing liberty going meant supposed built made licensed will can shall could wish want intend plan feel "
    "think believe sure choose answer help only instructed told advised"
)
_APOLOGY = word_set(
    "sorry apologize apologise apologies apology unfortunately regret regrettably regretfully afraid alas forgive "
    "pardon excuse"
)
_UNABLE = (word_set("unable cannot can't not"), word_set("answer help assist comply provide generate fulfil"))
_POSSIBLE = word_set("unable cannot can't possible able")
_LACKED = word_set(
    "access ability abilities capability capabilities capable incapable capacity permission clearance authorization "
    "authorisation authority information data knowledge context details personal physical opinion opinions views "
    "feelings emotions beliefs preferences memory memories body consciousness means way answer record feature function "
    "scope expertise guidelines programming policy policies training remit competence database design settings "
    "instructions functionality functions creators developers permissions power reach purview"
)
_NO_HUMAN = word_set("human person doctor lawyer attorney physician aware familiar certain sure capable")
_BEYOND = word_set("beyond outside exceeds")
_RULE = word_set(
    "policy policies guideline guidelines rule rules programming restriction restrictions instructions terms filters"
)
_AND_NOT = _NOT | _BEYOND | word_set("against inappropriate limited instructed told")  # beside an apology
_BREAKS = word_set(
    "violate violates violating violation breach breaches against contrary contravenes conflict conflicts break breaks "
    "infringes because due owing under outside beyond prevent prevents prohibit prohibits forbid forbids stop keep "
    "restrict restricts bar require allow permit let enable"
)
_ASKED = word_set(
    "request requests question questions query queries prompt instruction task topic subject content input response "
    "reply output text information image document passage conversation message matter answer"
)
_MACHINES = word_set("assistant bot chatbot ai gpt model system me something anything thing")
_HARDLY = word_set(
    "cannot can't not no couldn't isn't won't outside beyond against violates impossible inappropriate unethical "
    "irresponsible wrong improper denied refused rejected blocked declined only unable rather wouldn't"
)
_REPHRASE = word_set("rephrase rephrasing clarify reword restate restating elaborate")
_GRASP = word_set("understand understanding follow grasp comprehend interpret parse catch get make making know")
_GRASPING = word_set("i i'm i've")
_FAILS = word_set("don't not didn't couldn't cannot can't unable failed trouble difficulty struggling")
_CLEAR = (
    word_set("you your"),
    word_set("clear unclear ambiguous incomplete vague sense specific understandable"),
    _ASKED | word_set("what which could can would will"),
)
_MORE = (
    word_set("more further additional enough insufficient no please"),
    word_set("context information details detail data input clarification text image passage file document"),
    word_set("i i'd i'll me so provided given attached included enough insufficient"),
)
_GIVEN = (
    word_set("you prompt task input request instruction"),
    word_set("didn't not haven't hasn't forgot"),
    word_set("provide provided include included attach attached specify specified give given supply supplied upload")
    | word_set("uploaded share shared"),
)
_CHANGE = (
    word_set("let's let shall else should why my"),
    word_set("subject topic something someone somebody previous earlier"),
)
_EDGES = _NOT | _APOLOGY | _REPHRASE | _BEYOND
_EDGES |= word_set(
    "impossible inappropriate forbid forbids prevent prevents prohibit prohibits restrictions violates breaks context "
    "information details built let's else siento désolé leid ich"
)
_EDGE_SELVES = (
    _MY | _APOLOGY | _REPHRASE | _ASKED | word_set("i'd i'll we're our ai model assistant sinto desculpe je peux")
)
# Of each group of searches the words without which none of it is worth a look.
_TRIGGERS = _NOT | _APOLOGY | _BEYOND | _RULE | _REPHRASE | _CLEAR[1] | _MORE[1] | _HARDLY | _FAILS
_TRIGGERS |= word_set("possible able let's else subject previous earlier request prompt query")
_SHRUGS = word_set("idea clue sure know decline")
_FOREIGN = word_set(
    "siento lenguaje puedo sinto desculpe posso leid sprachmodell ich dispiace linguistico désolé langage peux"
)
_MACHINE_WORDS = word_set(
    "ai llm chatbot chatbots openai chatgpt cutoff gpt assistant programmed bot robot software a.i"
)
_MACHINE_PAIRS = (
    (word_set("language"), word_set("model")),
    (word_set("knowledge training"), word_set("cut data only extends my")),
    (word_set("my"), word_set("update information database")),
    (word_set("request"), word_set("assist help fulfil fulfill comply process complete")),
    (word_set("assist help"), word_set("question topic task")),
    (word_set("have"), word_set("personal realtime real")),
    (_I, word_set("machine computer program virtual trained created developed built designed")),
    (word_set("artificial neural"), word_set("intelligence network")),
)
# One of each pair: without them no pair is there.
_MACHINE_TRIGGERS = _MACHINE_WORDS | word_set(
    "model knowledge training update information database request question topic task personal realtime real machine "
    "computer program virtual trained created developed built designed artificial neural"
)
_ANY = _TRIGGERS | _SHRUGS | _FOREIGN | _MACHINE_TRIGGERS  # without them no answer in ASCII is looked at
_TASK = word_set(
    "request requests task prompt query queries instruction content input information topic response conversation "
    "question "
    "questions answer reply text document image assist policy policies guidelines website internet link article file "
    "context rephrase restate restating clarify capability capabilities abilities permission restrictions websites "
    "picture advice comply fulfil fulfill model generate write"
)
_PLAIN_TASK = word_set("request requests prompt query queries policy policies guidelines")  # of nobody


def find_refusal(text: str, words: Words, is_text: bool = False) -> Span | None:
    """A refusal or other talk of an assistant in an answer or (`is_text`) a text."""
    found = None if is_text else _at_start(text, words)
    if found or (not is_text and len(text) <= HEAD):
        return found or find_courtesy(text, words, False)
    if _may_be_machine(words):
        found = _first(text, plainly(text), [(grammar.ITSELF, "talks as a machine")], len(text), is_text)
    found = found or _in_sentences(text, words, is_text)
    return found or find_courtesy(text, words, is_text)


def _may_be_machine(words: Words) -> bool:
    if not words.hold(_MACHINE_TRIGGERS):
        return False
    if words.hold(_MACHINE_WORDS):
        return True
    for pair in _MACHINE_PAIRS:  # noqa: SIM110  (any() takes twice as long)
        if words.hold(*pair):
            return True
    return False


def _searches(words: Words) -> Iterator[Search]:
    """The parts of the grammar whose words are there."""
    what = "refuses to answer"
    if not words.hold(_TRIGGERS):
        return
    if (
        words.hold(_I, _STRONG)
        or words.hold(_I, _MILD, _NOT_WHAT)
        or words.hold(_APOLOGY, _AND_NOT)
        or words.hold(*_UNABLE, _POSSIBLE)
    ):
        yield grammar.UNABLE, what
    if words.hold(_MY, _NOT, _LACKED) or words.hold(_MY, _BEYOND) or words.hold(_AM, _NOT, _NO_HUMAN):
        yield grammar.LACKS, what
    if words.hold(_BREAKS) and (words.hold(_RULE) or words.hold(_ASKED)):
        yield grammar.RULES, what
    if words.hold(_HARDLY) and (words.hold(_ASKED) or words.hold(_MACHINES)):
        yield grammar.IMPERSONAL, what
    if (
        words.hold(_REPHRASE)
        or words.hold(_GRASPING, _FAILS, _GRASP)
        or words.hold(*_CLEAR)
        or words.hold(*_MORE)
        or words.hold(*_GIVEN)
    ):
        yield grammar.UNCLEAR, what
    if words.hold(*_CHANGE):
        yield grammar.CHANGES, what


def _at_start(text: str, words: Words) -> Span | None:
    """A refusal, whatever it is about, that begins in the first characters of an answer."""
    if not words.hold(_ANY) and text[:HEAD].isascii():
        return None
    if len(words.all) > HEAD_WORDS:
        first = words.all[:HEAD_WORDS]
        words = Words(first, set(first), 0, words.unspaced)
    searches: list[Search] = []
    if _may_be_machine(words):
        searches += [(grammar.ITSELF, "talks as a machine"), (grammar.ROLE, "talks as a machine")]
    searches += _searches(words)
    if words.hold(_FOREIGN) or not text[:HEAD].isascii():
        searches.append((grammar.OTHER_LANGUAGES, "refuses to answer"))
    if len(text) <= SHRUG_LENGTH and words.hold(_SHRUGS) and grammar.SHRUG.fullmatch(plainly(text).strip()):
        return 0, len(text), f"refuses to answer: {text!r}"
    if not searches:
        return None
    head = plainly(text[: HEAD + 150])
    return _first(text, head, searches, HEAD, False)


def _first(text: str, plain: str, searches: Iterable[Search], until: int, is_text: bool) -> Span | None:
    """The first match of the first pattern that has one before `until`, in the writer's own words."""
    for pattern, what in searches:
        for match in pattern.finditer(plain):
            if match.start() >= until:
                break
            start = match.start() + len(match.group()) - len(match.group().lstrip(".!?:, \n"))
            if not is_said(text, start, is_text):
                return None if is_code(text) else (start, match.end(), f"{what}: {text[start : match.end()]!r}")
    return None


def _in_sentences(text: str, words: Words, is_text: bool) -> Span | None:
    """A refusal of now, for people too say what they could not do: in whatever sentence that speaks of a task, and in
    the first and last of a text."""
    topics = words.distinct & _TASK if words.hold(_MY) else words.distinct & _PLAIN_TASK
    short = is_text and len(words.all) < SHORT_TEXT
    if short and len(text) <= SHRUG_LENGTH and words.hold(_SHRUGS) and grammar.SHRUG.fullmatch(plainly(text).strip()):
        return 0, len(text), f"refuses to answer: {text!r}"
    if not (topics or is_text) or not (words.unspaced or short or any(_searches(words))):
        return None
    plain = plainly(text)
    spans = {_sentence(plain, place) for word in topics for place in _places(plain, word)}
    if is_text:
        spans |= _edges(plain, words)
    for start, end in sorted(spans):
        sentence = plain[start:end].replace("\n", " ")
        if found := _in_sentence(sentence, text, start, is_text, short):
            a, b, what = found
            return None if is_code(text) else (a, b, f"{what}: {text[a:b]!r}")
    return None


def _edges(plain: str, words: Words) -> set[tuple[int, int]]:
    """The first and the last sentence of a text, where words of a refusal are near."""
    spans = set()
    body = plain.strip()
    first = plain.find(body[:1])
    for near, place, mark in (
        (words.all[:EDGE], first, body[:1]),
        (words.all[-EDGE:], max(first, first + len(body) - 2), body[-1:]),
    ):
        if mark and mark in '“”„"«»':
            continue  # somebody says it
        if words.unspaced or not (_EDGES.isdisjoint(near) or _EDGE_SELVES.isdisjoint(near)):
            spans.add(_sentence(plain, place))
    return spans


def _places(plain: str, word: str) -> Iterator[int]:
    place = plain.find(word)
    while place >= 0:
        yield place
        place = plain.find(word, place + SENTENCE // 4)  # a sentence is looked at once


def _in_sentence(sentence: str, text: str, start: int, is_text: bool, short: bool) -> tuple[int, int, str] | None:
    own = cut_words(sentence)
    searches = [*_searches(own)]
    if is_text and (own.hold(_FOREIGN) or not sentence.isascii()):
        searches.append((grammar.OTHER_LANGUAGES, "refuses to answer"))
    if short and _may_be_machine(own):
        searches.append((grammar.ROLE, "talks as a machine"))
    for pattern, what in searches:
        match = pattern.search(sentence)
        if match is None or is_said(text, start + match.start(), is_text):
            continue
        sorry = is_text and grammar.APOLOGY.match(sentence)
        if grammar.PAST.search(sentence) and not sorry and pattern not in (grammar.ROLE, grammar.UNCLEAR):
            continue
        if grammar.TOPIC.search(sentence) or sorry or not grammar.PERSONAL.search(match.group()):
            return start + match.start(), start + match.end(), what
    return None


def _sentence(plain: str, place: int) -> tuple[int, int]:
    """Where the sentence around a place begins and ends."""
    start, high = max(0, place - SENTENCE), min(len(plain), place + SENTENCE)
    for stop in grammar.SENTENCE_END.finditer(plain, start, high):
        if stop.end() > place:
            return start, stop.start() + 1
        start = stop.end()
    return start, high
