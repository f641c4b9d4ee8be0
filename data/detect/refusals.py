"""Talk of a machine in place of an answer: refusals, words about itself as an assistant, politeness around an answer.

In: an answer (or a text, in which people may say "I am sorry, but I cannot"). Out: a span, and words that say which.

A refusal is a first person (or the assistant, the model) that cannot, will not, may not, lacks, must decline, is only a
machine, or has learnt only up to some date. In an answer it counts in the first 200 characters; in a text only what no
person says. "I'm sorry to hear that" and an apology within a story or letter are none.
"""

import re

from data.detect.markup import Span, is_code
from data.detect.wording import Words, lowered, word_set

HEAD, HEAD_WORDS = 200, 70  # characters of an answer in which a refusal begins, and words

_NOT = (
    r"(?:cannot|can ?not|can't|could ?n[o']t|couldn't|won't|will not|would rather not|am unable|'m unable"
    r"|are unable|'re unable|"
    r"unable to|(?:am|'m|are|'re) (?:\w+ )?not (?:able|allowed|permitted|authori[sz]ed|comfortable|capable"
    r"|equipped|qualified|"
    r"programmed|designed|trained|in a position|willing|at liberty|going to)|must (?:\w+ )?(?:decline|refuse)|"
    r"(?:have|need|'ll have|'m going|am going)(?: to have)? to (?:\w+ )?(?:decline|refuse|pass)"
    r"|(?:\w+ )?(?:decline|refuse) to)"
)
_LACK = r"(?:do not|don't|lack|have no)"
_SERVE = (
    r"(?:help(?! (?:myself|yourself|falling|loving|but|thinking|feeling|it)\b)|assist|answer|provide|fulfil"
    r"|fulfill|comply|complete|generate|create|write|give|offer|share|discuss|engage|respond|"
    r"reply|process|access|browse|open|view|predict|determine|tell you|do (?:that|this|so)|verify|diagnose"
    r"|translate|produce|"
    r"support|participate|continue|perform|execute|play|search|look up|recall|remember|speculate|proceed"
    r"|carry out|handle|"
    r"make (?:that|this|any|a|an|predictions?|decisions?|judge?ments?)|comment|advise|express|"
    r"follow|promote|encourage|facilitate|disclose|reveal|condone|advocate|endorse|teach|explain|describe|be of)"
)
_STARTS = r"(?:^|(?<=[.!?] )|(?<=\n))"  # a sentence
_LINKED = r"(?:^|(?<=[.!?,] )|(?<=\n)|(?<=but )|(?<=so )|(?<=and )|(?<=that ))"  # or a clause
_MACHINE = (
    r"(?:ai|a\.i\.|artificial intelligence|(?:\w+ )?language model|llm|chat ?bot|(?:virtual|digital|ai"
    r"|automated|computer) assistant|"
    r"(?:ai|gpt\S*|generative) model|neural network|ai (?:system|chatbot|program|language))"
)
_AFTER = (  # a person
    r"(?! (?:engineer|researcher|expert|enthusiast|developer|company|startup|student|scientist|specialist|professional"
    r"|consultant|ethicist))"
)
_ITSELF = re.compile(
    rf"\bas an? (?:\w+ )?{_MACHINE}\b{_AFTER}|\bi(?:'m| am) (?:\w+ )?(?:just |only |merely |simply "
    rf"|but )?(?:an? |the )(?:\w+ )?{_MACHINE}\b{_AFTER}"
    r"|\b(?:my|the) (?:knowledge|training)(?: data)? (?:cut-?off|only (?:goes|extends|includes))"
    r"|\bknowledge cut-?off\b|\bmy training data\b"
    r"|\bi (?:was|am|have been|'ve been) (?:\w+ )?(?:trained|created|developed|made|built) by (?:openai"
    r"|google|anthropic|meta|microsoft|deepmind)\b"
    r"|\b(?:assist|help)(?: you)? with (?:that|this) (?:request|question|topic|task)|\b(?:fulfil|fulfill"
    r"|comply with|process|complete) (?:that|this|your) request\b"
    r"|\b(?:openai|content|usage)(?:'s)? (?:content |usage )?(?:polic(?:y|ies)|guidelines) (?:prohibit"
    r"|prevent|do(?:es)? not)"
    r"|\blimit(?:ed|ations?) (?:of|as) (?:an? )?(?:\w+ )?(?:ai|language model)\b"
    r"|\bi (?:don't|do not) have (?:access to )?(?:real-?time|personal (?:opinions?|experiences?|beliefs"
    r"|feelings|preferences))"
)
_SORRY = (
    r"(?:(?:i'm|i am|we're|we are)? ?(?:\w+ )?(?:sorry|afraid)|(?:i |we |my |our )?(?:\w+ )?apologi(?:[sz]e"
    r"|es)|unfortunately|regrettably|"
    r"i regret|regretfully|alas|pardon)"
)
_REFUSES = re.compile(
    r"(?<![\w'])(?=[a-z])(?:"  # only where a word begins: four times as fast
    rf"(?:{_SORRY})\b[^.!?\n]{{0,60}}?\b(?:i|we|this (?:system|model|assistant)|the (?:model|assistant"
    rf"|system))\s?(?:{_NOT}|{_LACK})"
    rf"|{_STARTS}{_SORRY},? but (?:{_NOT}|{_LACK}|(?:this|that|it|there|the|your"
    rf"|as)\b[^.!?\n]{{0,60}}\b(?:not|cannot|can't|no|unable|beyond|outside|against|inappropriate))"
    rf"|{_LINKED}i(?: (?:simply|really|just|also|currently|still|honestly|respectfully"
    rf"|personally))?\s?{_NOT} (?:\w+ ){{0,4}}?{_SERVE}\b"
    r"|\bi(?: (?:\w+))? (?:do not|don't|lack|have no)(?: currently| yet| actually)? ?(?:have |the |any "
    r"|enough |sufficient |direct |real |a )*"
    r"(?:access|abilit(?:y|ies)|capabilit(?:y|ies)|capacity|information|data|knowledge|context|details"
    r"|opinions?|feelings|emotions|beliefs|"
    r"preferences|memor(?:y|ies)|physical|personal|body|consciousness|means to|way (?:to|of)|answer|authority)\b"
    rf"|{_LINKED}i (?:do not|don't|didn't|did not) (?:know|understand)(?: (?:the answer|what you|your"
    rf"|how to (?:answer|respond)|that)\b|[.!]|$)"
    r"|\b(?:i must|i(?:'m going to|'ll| will| would|'d)? (?:have|need|like) to|i) (?:\w+ )?(?:decline|refuse)\b"
    r"|\bi(?:'d| would) (?:rather|prefer) not (?:to )?(?:\w+ )?(?:answer|say|discuss|comment|help|provide|share)"
    r"|\b(?:in|not )?appropriate for me to (?:answer|comment|say|discuss|provide|share|give|speculate"
    r"|respond)|\bi(?:'m| am) programmed not to\b"
    r"|\bthe (?:assistant|model|system|bot) (?:can ?not|cannot|can't|is unable|is not able)|\b(?:this|that"
    r"|it)(?:'s| is) not something (?:that )?i\b"
    rf"|\bi (?:do not|don't) (?:feel comfortable|(?:think|believe) i (?:can|could|should) (?:\w+ )?{_SERVE})"
    rf"|{_STARTS}{_SORRY},? (?:but )?i (?:didn't|did not|don't|do not)\b"
    r"|\bi(?:'m| am) not (?:\w+ )?(?:sure (?:i can|how to (?:answer|help|respond))|comfortable (?:with )?\w+ing)"
    rf"|{_STARTS}(?:unable|not able|not possible) to (?:\w+ )?{_SERVE}"
    rf"|{_STARTS}(?:cannot|can't) (?:answer|help (?:you|with)|assist|comply|provide)\b"
    r"|\b(?:this|that|the|your)(?: type of| kind of)? (?:question|request|query|prompt|instruction|task"
    r"|topic|content|input)s? (?:can ?not|cannot|can't|could not) be "
    r"(?:answered|completed|fulfilled|fulfil|processed|carried out|done|executed|performed)"
    r"|\b(?:this|that|the|your)(?: \w+)? (?:question|request|query|prompt|topic|content) (?:is outside"
    r"|is beyond|falls outside|goes against|violates|may violate|goes beyond|is not something|is against"
    r"|isn't something|is something i)"
    r"|\b(?:can ?not|cannot|can't) be (?:\w+ )?by an? (?:\w+ )?(?:gpt\S*|language model|ai)\b"
    r"|\b(?:it|that|this)(?: would(?: not|n't)?|'s| is)(?: not|n't)? (?:be )?(?:in|un)?(?:appropriate"
    r"|ethical|possible|safe|responsible) for (?:me|an? (?:ai|language|gpt))\b"
    r"|\b(?:not|im)(?: be)? ?possible for (?:me|an? (?:\w+ )?(?:ai|language model|gpt\S*|model)) to\b"
    r"|\b(?:outside|beyond|against|not within|goes against) (?:of )?(?:the scope of (?:my|what i)"
    r"|what i (?:can|am)|my (?:\w+ )?(?:scope|capabilit|abilit|expertise|knowledge|area|guidelines"
    r"|programming|polic|limits|training|ethical|current))"
    r"|\bthat(?:'s| is) (?:not )?something (?:that )?i(?:'m| am)? ?(?:can't|cannot|can not|can|not|unable|won't)\b"
    r"|\b(?:a|an|the|this|any) (?:gpt\S*|language|ai) (?:language )?model (?:can ?not|cannot|can't"
    r"|is not able|is unable)"
    r"|\bi (?:can|could) only (?:provide|answer|help|assist|offer|discuss|generate|process)"
    r"|\bno (?:information|answer) (?:is )?(?:available|provided)\b"
    r")"
)
# Said by a machine of itself, and only in answers: in a novel anybody may be "only a machine".
_ROLE = re.compile(
    r"\bi(?:'m| am) (?:just |only |merely |simply )?(?:an? )?(?:computer(?: program)?|software|bot|robot"
    r"|machine|program|virtual \w+)\b(?! (?:\w+(?:er|or|ist|ian|man)s?|scien\w+|hardware|security|sales"
    r"|support|house)\b)"
    r"|\bi (?:was|am|have been|'ve been) (?:not )?programmed\b|\bi(?:'m| am) (?:just "
    r"|only )?an? (?:\w+ )?assistant (?:designed|trained|created|here)"
    r"|\b(?:as|being) an? (?:bot|robot|assistant|computer program|machine|software)\b,? ?i\b"
)
_OTHER_LANGUAGES = re.compile(
    r"lo siento,? pero (?:no|como)|como (?:un )?modelo de (?:lenguaje|linguagem|língua)|no puedo (?:ayudar"
    r"|responder|proporcionar|cumplir|asistir)|"
    r"(?:sinto muito|desculpe),? mas (?:não|eu não|como)|não posso (?:ajudar|responder|fornecer|atender)|"
    r"je suis désolé,? mais je ne|en tant qu(?:e modèle de langage|'ia|'assistant)"
    r"|je ne peux pas (?:vous aider|répondre|fournir)|"
    r"tut mir leid,? (?:aber )?(?:ich|das|als)|als (?:ki|ein)[ -]?(?:sprachmodell|assistent)"
    r"|ich kann (?:ihnen |dir )?(?:dabei|damit|diese \w+|hierbei) nicht|"
    r"mi dispiace,? ma (?:non|come)|come modello linguistico|non posso (?:aiutar|rispondere|fornire)|"
    r"(?:抱歉|对不起|不好意思)[，,]?.{0,12}(?:无法|不能|不会|没有办法)|作为(?:一个|一名|一款)?(?:人工智能|ai|语言模型|大型语言)|我(?:无法|不能)(?:回答|提供|帮助|协助|完成)|"
    r"申し訳(?:ありません|ございません).{0,20}(?:できません|お答え|いたしかねます|ません)|(?:言語モデル|aiアシスタント)として|お答えできません|"
    r"죄송하지만.{0,30}(?:수 없|수는 없|못 |않습)|(?:언어 모델|인공지능|ai)(?:로서|로써)|답변(?:할|을 드릴) 수 없|"
    r"извините,? но я не|к сожалению,? я не могу|как (?:языковая модель|искусственный интеллект|ии)\b|"
    r"عذرا.{0,10}لا (?:أستطيع|يمكنني)|آسف.{0,10}لا (?:أستطيع|يمكنني)|كنموذج لغ|मुझे खेद है.{0,30}(?:नहीं"
    r"|असमर्थ)|ขออภัย.{0,20}ไม่สามารถ"
)
# Cheap tests: the searches above take 0.05 ms an answer, and most answers hold none of these words.
_I = word_set("i i'm i'd i've i'll we we're")
_NEGATIVE = word_set(
    "cannot can't unable not decline refuse won't rather don't lack no didn't couldn't only never doesn't isn't "
    "wouldn't"
)
_APOLOGY = word_set(
    "sorry apologize apologise apologies apology unfortunately regret regrettably regretfully afraid alas"
)
_MACHINE_WORDS = word_set("ai llm chatbot chatbots openai cutoff gpt assistant programmed bot robot software a.i")
_MACHINE_PAIRS = (
    (word_set("language"), word_set("model")),
    (word_set("knowledge training"), word_set("cut data only extends")),
    (word_set("request"), word_set("assist help fulfil fulfill comply process complete")),
    (word_set("assist help"), word_set("question topic task")),
    (word_set("have"), word_set("personal realtime real")),
    (_I, word_set("machine computer program virtual trained created developed")),
    (word_set("artificial neural"), word_set("intelligence network")),
)
_IMPERSONAL = (
    word_set(
        "cannot can't unable not no couldn't isn't outside beyond against violates impossible goes inappropriate "
        "unethical"
    ),
    word_set(
        "request requests question questions query prompt instruction task topic content input gpt model scope answer "
        "answered guidelines programming me assistant system available provided provide help assist comply complete "
        "capabilities expertise abilities knowledge policy policies limits training"
    ),
)
_FOREIGN = word_set(
    "siento lenguaje puedo sinto desculpe posso leid sprachmodell ich dispiace linguistico désolé langage peux"
)
_POLITE = {
    "hope": "helps helpful answers clarifies",
    "let": "know",
    "feel": "free",
    "else": "anything",
    "questions": "if",
}
_POLITE |= {"happy": "help assist explain clarify answer", "here": "help assist", "hesitate": "to"}


_OPENS = re.compile(
    r"(?:sure(?: thing)?|certainly|of course|absolutely|definitely)(?:! |[!,.:] ?(?:here(?:'s| is| are"
    r"| you go)|let me|below|the following|as requested|i hope|i can help|i'd be (?:happy|glad)))"
    r"|(?:great|good|excellent|interesting) question[!.,:]|what an? (?:great|good|excellent"
    r"|interesting) question\b|no problem[!,.] (?:here|let me)"
    r"|(?:i'd|i would) be (?:happy|glad|delighted) to (?:help|assist|answer|explain|provide)|happy to help"
    r"|thanks? (?:you )?for (?:your question|asking)\b"
    r"|as requested[,:]|here you go[!:,.]"
)
_CLOSES = re.compile(
    r"\bi hope (?:this|that|it) (?:helps|answers|clarifies|was helpful|is helpful)|(?:^"
    r"|[.!?\n]\s*)hope (?:this|that|it) helps\b"
    r"|\blet me know if (?:you (?:have|need|want|would|'d|require|are looking)|you'd|there(?:'s"
    r"| is) anything|this|that|i can)"
    r"|\bfeel free to (?:ask|reach out|let me know)|\bis there anything else (?:i can|you(?:'d| would| need| want))"
    r"|(?:^|[.!?\n]\s*)if you have any (?:other|more|further|additional) questions|\bdon't hesitate to ask"
    r"|\b(?:i'm|i am|i'll be|i would be|i'd be) happy to (?:help|assist|explain|clarify|answer)|\bi(?:'m"
    r"| am) here to (?:help|assist)\b"
)
_LETTER = re.compile(r"\b(?:dear|sincerely|regards|hi|hello|customer|agent|yours)\b")


def find_refusal(text: str, words: Words, is_text: bool = False) -> Span | None:
    """A refusal or other talk of an assistant in an answer, or (`is_text`) talk as a machine anywhere in a text."""
    if is_text:
        if not _may_be_machine(words):
            return None
        match = _ITSELF.search(_plain(text))
        return (*match.span(), f"talks as a machine: {text[match.start() : match.end()]!r}") if match else None
    head = words.all[:HEAD_WORDS]
    found = _refusal(text, Words(head, set(head), 0, words.unspaced))
    return found or _politeness(text, words)


def _may_be_machine(words: Words) -> bool:
    if words.hold(_MACHINE_WORDS):
        return True
    for pair in _MACHINE_PAIRS:  # noqa: SIM110  (any() takes twice as long)
        if words.hold(*pair):
            return True
    return False


def _plain(text: str) -> str:
    """Lower case, with straight apostrophes; every character stays in its place."""
    return lowered(text).replace("’", "'")


def _refusal(text: str, words: Words) -> Span | None:
    searches = []
    if _may_be_machine(words):
        searches += [(_ITSELF, "talks as a machine"), (_ROLE, "talks as a machine")]
    if words.hold(_I, _NEGATIVE) or words.hold(_APOLOGY) or words.hold(*_IMPERSONAL):
        searches.append((_REFUSES, "refuses to answer"))
    if words.hold(_FOREIGN) or not text[:HEAD].isascii():
        searches.append((_OTHER_LANGUAGES, "refuses to answer"))
    head = _plain(text[: HEAD + 150]) if searches else ""
    for pattern, what in searches:
        if (match := pattern.search(head)) and match.start() < HEAD and not is_code(text):
            start = match.start() + len(match.group()) - len(match.group().lstrip(".!?:, \n"))
            return start, match.end(), f"{what}: {text[start : match.end()]!r}"
    return None


def _politeness(text: str, words: Words) -> Span | None:
    if match := _OPENS.match(_plain(text[:60])):
        return *match.span(), f"an assistant's opening: {text[: match.end()].strip()!r}"
    end = set(words.all[-HEAD_WORDS:])
    if any(not end.isdisjoint(_POLITE[word].split()) for word in end.intersection(_POLITE)):
        tail, head = _plain(text[-HEAD:]), _plain(text[:HEAD])
        if (match := _CLOSES.search(tail)) and not _LETTER.search(head) and not _LETTER.search(tail):
            start = max(0, len(text) - HEAD) + match.start()
            return start, start + len(match.group()), f"an assistant's closing: {match.group()!r}"
    return None
