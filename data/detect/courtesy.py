"""How assistants frame an answer: "Sure! Here is" before it, "I hope this helps" behind it.

In: an answer, or a text, and its words. Out: a span, and words that say which; None for most. What somebody says in it
is part of it, and so are the phrases of letters.
"""

import re

from data.detect.markup import Span
from data.detect.speech import is_said
from data.detect.wording import Words, plainly, word_set

FIRST_WORDS = 20
FIRST = 60  # characters of a first sentence behind which courtesy may open
END, END_WORDS = 200, 70  # characters of an end in which it closes, and words

_OPENERS = word_set(
    "sure certainly course absolutely definitely gladly pleasure question happy glad delighted pleased thrilled "
    "problem requested asked thanks thank here"
)
# Words of a closing, and of each those of which one stands beside it.
_POLITE = {
    "hope": "helps help helpful answers answer clarifies clears sense explains provides assists",
    "let": "know",
    "feel": "free",
    "else": "anything something",
    "hesitate": "to",
    "you're": "welcome",
    "shall": "i",
    "would": "like",
    "want": "do",
}
_POLITE |= dict.fromkeys(("questions", "assistance", "clarification"), "if should")
_POLITE |= dict.fromkeys(("help", "information", "details", "explanation", "examples"), "more further additional other")
_POLITE |= dict.fromkeys(
    ("happy", "glad", "delighted", "pleased", "here", "how"), "help assist explain clarify answer provide"
)
_POLITE_KEYS = frozenset(_POLITE)

_AID = r"(?:help|assist|answer|explain|clarify|elaborate|provide|support|guide)(?:ing)?"
_GLAD = r"(?:happy|glad|delighted|pleased|thrilled|here|more than happy|always happy)"
_OPENS = re.compile(
    r"(?:(?:hello|hi|hey|greetings)(?: there)?[!,.] )?(?:"
    r"(?:sure(?: thing)?|certainly|of course|absolutely|definitely|gladly|with pleasure|my pleasure)"
    r"(?:! (?=\w)|[!,.:] ?(?:here(?:'s| is| are| you go)|let me"
    r"|let's (?:solve|work|break|calculate|compute|dive|walk|figure|go through|look|take a look)|below|the following"
    rf"|as requested|i hope|(?:i (?:can|could|will|would)|i'll|i'd) (?:certainly |gladly |be {_GLAD} to )?{_AID}"
    rf"|(?:i'd|i would) be {_GLAD}|happy to))"
    r"|(?:(?:that's|that is|this is|what) (?:an? |such an? )?)?(?:\w+ )?(?:great|good|excellent|interesting|wonderful"
    r"|fantastic|thoughtful) question(?:[!.,:]| about| and\b)"
    r"|no problem[!,.] (?:here|let me|i)"
    rf"|(?:i'd|i would|i'm|i am|we'd) (?:be )?{_GLAD} to {_AID}|{_GLAD} to (?:help|assist)\b"
    r"|thanks? (?:you )?(?:so much |very much )?for (?:your (?:\w+ )?(?:question|query)|asking)\b"
    r"|as requested[,:]|here you go[!:,.]|as you (?:asked|requested)[,:])"
)
_BEGINS = r"(?:^|(?<=[.!?\n])|(?<=[.!?\n] ))"  # a sentence
# Only where a word begins: a quarter of the time.
_CLOSES = re.compile(
    r"(?<![\w'])(?=[abdfghilmpstwy])(?:"
    r"i hope (?:(?:this|that|it|these|my) (?:\w+ )?(?:helps?|answers?|clarif\w+|clears|makes sense|explains|gives you"
    r"|provides|assists)|(?:this|that|it) (?:was|is) helpful)"
    rf"|{_BEGINS}hope (?:this|that|it) (?:helps|clears|answers|makes)"
    r"|let me know (?:if|how|what|whether|should) (?:you (?:have|need|want|would|'d|require|are looking|like)|you'd"
    r"|there(?:'s| is)|this|that|i can|any\w*|else|it)\b"
    r"|feel free to (?:ask|reach out|let me know|contact me|share)"
    r"|(?:anything|something) else (?:that )?(?:i can|you(?:'d| would| need| want)(?: like)?)"
    rf"|{_BEGINS}(?:should|if) you (?:have|need|require|want|would like) (?:any )?(?:\w+ )?(?:other|more|further"
    r"|additional) (?:\w+ )?(?:questions|help|assistance|information|details|support|clarification|explanations?"
    r"|examples)"
    r"|(?:don't|do not) hesitate to (?:ask|reach out|let me know|contact me|tell me)"
    rf"|(?:(?:i'm|i am|i'll be|i would be|i'd be) |{_BEGINS}(?:always )?){_GLAD} to {_AID}\b"
    r"|(?:would you like|do you want)(?: me to (?:explain|elaborate|clarify|show|provide|help|solve|continue|go|give"
    r"|write|walk|summari|generate|break|rephrase)| to know more| more (?:details|examples|information|help))"
    r"|shall i (?:explain|continue|go on|elaborate)"
    r"|how (?:else )?(?:can|may) i (?:help|assist) you(?: today| further| with (?:any|some)thing(?: else)?| better)?\?"
    r"|you're (?:very )?welcome[.!]|good luck with your (?:question|homework|assignment|studies))"
)
_STOP = re.compile(r"[.!]\s+(?=[a-z])")
_LETTER = re.compile(r"\b(?:dear|sincerely|regards|hi|hello|customer|agent|yours)\b")


def find_courtesy(text: str, words: Words, is_text: bool) -> Span | None:
    """How an assistant opens an answer, or goes on behind a short first sentence, and how it closes one."""
    if not _OPENERS.isdisjoint(words.all[:FIRST_WORDS]):
        start = plainly(text[: 2 * FIRST])
        if not (match := _OPENS.match(start)) and (stop := _STOP.search(start, 0, FIRST)):
            match = _OPENS.match(start, stop.end())
        if match and not is_said(text, match.start(), is_text):
            found = text[match.start() : match.end()].strip()
            return *match.span(), f"an assistant's opening: {found!r}"
    if not words.hold(_POLITE_KEYS):
        return None
    end = set(words.all[-END_WORDS:])
    if any(not end.isdisjoint(_POLITE[word].split()) for word in end.intersection(_POLITE)):
        tail, head = plainly(text[-END:]), plainly(text[:END])
        if (match := _CLOSES.search(tail)) and not _LETTER.search(head) and not _LETTER.search(tail):
            place = max(0, len(text) - END) + match.start()
            if not is_said(text, place, is_text):
                return place, place + len(match.group()), f"an assistant's closing: {match.group()!r}"
    return None
