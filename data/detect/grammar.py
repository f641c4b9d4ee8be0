"""The grammar of refusals: who speaks, what it cannot do, and why.

Patterns for lower-case text with straight apostrophes; data/detect/refusals.py says where each of them counts. They are
built from parts of speech: a self (I, this assistant), a lack (cannot, no permission to), a service (answer, provide)
and its object (question, request), so that a sentence is told by its form and not by its wording.
"""

import re

# -- parts of speech

_SELF = (
    r"(?:i|we|(?:this|the|your|our) (?:\w+ )?(?:ai|assistant|chat ?bot|bot|language model|llm)"
    r"|this (?:model|system|tool|service|program)|chatgpt|gpt\S*)"
)
_CANNOT = r"(?:cannot|can ?not|can't|could ?n[o']t|couldn't|won't|will not|shall not|shan't|can neither)"
_IS = r"(?:am|'m|is|are|'re|was|were|(?:'ve |have )?been|be|feel)"
_UNABLE = (
    rf"(?:{_IS} (?:\w+ )?(?:unable to|incapable of|(?:forbidden|prohibited|prevented|restricted|barred|blocked|limited)"
    r"(?: from| to| by)|(?:instructed|told|advised|programmed|designed|trained) not to)|unable to"
    rf"|{_IS} (?:\w+ )?not (?:\w+ )?(?:able|allowed|permitted|authori[sz]ed|comfortable|capable|equipped|qualified"
    "|programmed|designed|trained|in a position|willing|at liberty|going to|meant|supposed|built|made|licensed"
    "|set up))"
)
_DECLINE = (
    r"(?:(?:must|have to|need to|'ll have to|will have to|'m going to|am going to|would like to|'d like to|'ll|will)"
    r"(?: have to)? (?:\w+ )?(?:decline|refuse|refrain|abstain|pass on)"
    r"|(?:would|'d) (?:rather|prefer)(?: to)? not|(?:would|'d) rather|(?:prefer|choose) not to"
    r"|(?:do not|don't) (?:wish|want|intend|plan) to|(?:\w+ )?(?:decline|refuse) to)"
)
_NOT = rf"(?:{_CANNOT}|{_UNABLE}|{_DECLINE})"
_LACK = r"(?:do not|don't|lack|have no|haven't|have not)"
_SERVE = (
    r"(?:help(?:ing)?(?! (?:myself|yourself|falling|loving|but|thinking|feeling|it)\b)|assist|answer|provid|fulfil"
    r"|comply|complet|generat|creat|writ|giv|offer|shar|discuss|engag|respond|reply|process|access|brows|open|view"
    r"|predict|determin|tell you|do (?:that|this|so)|verif|diagnos|translat|produc|support|participat|continu|perform"
    r"|execut|play|search|look (?:up|at|into)|recall|remember|speculat|proceed|carry out|handl|retriev|summari[sz]"
    r"|make (?:that|this|any|a|an|predictions?|decisions?|judge?ments?)|comment|advis|express|see the|check|talk about"
    r"|follow|promot|encourag|facilitat|disclos|reveal|condon|advocat|endors|teach|explain|describ|be of|say|speak"
    r"|go into|get into|recommend|confirm|weigh in|elaborat|analy[sz]|interpret|identif|locat|find any|point you)"
    r"(?:e|es|ing|y|ying|fill|e?d)?\b"
)
_ASKED = (
    r"(?:request|task|prompt|query|queries|question|quer|instruction|input|topic|subject|content|information|image"
    r"|conversation|document|passage|answer|response|reply|repl(?:y|ies)|output|text|matter|message)(?:s|ies)?"
)
_RULE = (
    r"(?:polic(?:y|ies)|guidelines?|rules?|programming|restrictions?|instructions?|terms|standards|safety \w+|filters?)"
)
_WHOSE_RULE = (
    rf"(?:(?:my|our) (?:\w+ ){{0,2}}{_RULE}|(?:the |our |my |openai\S* |platform\S* |your )*(?:content|usage|use|safety"
    rf"|community|ethical|ethics|moderation|openai\S*|platform\S*|privacy) (?:\w+ )?{_RULE}|terms of (?:use|service))"
)
_BREAKS = (
    r"(?:violat\w+(?: of)?|breach\w*(?: of)?|contraven\w+|conflict\w* with|in conflict with|infring\w+(?: on| upon)?"
    r"|break\w*|(?:goes |go |is |are )?against|contrary to|(?:permitted|allowed|prohibited|forbidden|covered|blocked)"
    r" (?:under|by)|because of|due to|in line with|owing to|at odds with|compl(?:y|iant) with|outside(?: of)?)"
)
_OWN = (  # what only a machine says of itself: my capabilities do not
    r"my (?:\w+ )?(?:capabilit\w+|abilit\w+|training|programming|knowledge|guidelines?|polic\w+|rules|functions?"
    r"|functionality|design|instructions|data|information|permissions?|access|database|creators?|developers?|settings)"
)
_MORE = r"(?:more|further|additional|missing|extra|sufficient|enough)"
_DETAILS = r"(?:context|information|details?|data|input|clarification|specifics?)"
_STARTS = r"(?:^|(?<=[.!?:] )|(?<=[\n\"“«„‘]))"  # a sentence
_LINKED = (
    r"(?:^|(?<=[.!?,:;] )|(?<=[\n\"“«„‘])|(?<=but )|(?<=so )|(?<=and )|(?<=that )|(?<=as )|(?<=since )|(?<=because ))"
)
_MACHINE = (
    r"(?:ai|a\.i\.|artificial intelligence|language model|llm|chat ?bot|(?:virtual|digital|ai|automated|computer"
    r"|online|conversational) assistant|(?:ai|gpt\S*|generative) model|neural network|ai (?:system|chatbot|program"
    r"|language|tool))"
)
_AFTER = (  # a person
    r"(?![ -](?:engineer|researcher|expert|enthusiast|developer|company|startup|student|scientist|specialist"
    r"|professional|consultant|ethicist|powered|based|driven|lab|team))"
)
_SORRY = (
    r"(?:(?:i'm|i am|we're|we are)? ?(?:\w+ )?(?:sorry|afraid)|(?:i |we |my |our |please accept my )?(?:\w+ )?apologi"
    r"(?:[sz]e|es)|unfortunately|regrettably|(?:i|we) regret(?: to inform you)?|regretfully|alas|pardon(?: me)?"
    r"|forgive me|excuse me)"
)

# -- a machine about itself: no person says so, in whatever text

ITSELF = re.compile(
    rf"\b(?:as|being|i,? as) an? (?:[\w-]+,? ){{0,3}}{_MACHINE}\b{_AFTER}"
    r"|\bi(?:'m| am) (?:\w+ )?(?:just |only |merely |simply |but )?(?:an? "
    rf"|the )(?:[\w-]+,? ){{0,3}}{_MACHINE}\b{_AFTER}"
    r"|\bi(?:'m| am) (?:chatgpt|gpt-\S+)"
    r"|\b(?:my|the) (?:knowledge|training)(?: data)? (?:cut-?off|only (?:goes|extends|includes))"
    r"|\bknowledge cut-?off\b"
    r"|\bmy training data\b"
    r"|\bmy (?:knowledge|information|data|training|database) (?:\w+ )?(?:stops|ends|goes|extends|is limited"
    r"|dates) (?:in|at|up|only|to|with|back|until|from)\b"
    r"|\bas of my (?:last |latest |most recent |current )?(?:\w+ )?(?:update|training|knowledge|data)\b"
    r"|\bi (?:was|am|have been|'ve been) (?:\w+ )?(?:trained|created|developed|made|built) by (?:openai|google"
    r"|anthropic|meta|microsoft|deepmind)\b"
    r"|\b(?:assist|help)(?: you)? with (?:that|this) (?:request|question|topic|task)"
    r"|\b(?:fulfil|fulfill|comply with|process|complete) (?:that|this|your) request\b"
    r"|\b(?:openai|content|usage)(?:'s)? (?:content |usage )?(?:polic(?:y|ies)|guidelines) (?:prohibit|prevent"
    "|do(?:es)? not)"
    r"|\blimit(?:ed|ations?) (?:of|as) (?:an? )?(?:\w+ )?(?:ai|language model)\b"
    r"|\bi (?:don't|do not) have (?:access to )?(?:real-?time|personal (?:opinions?|experiences?|beliefs|feelings"
    "|preferences))"
)

# Only in answers: in a novel anybody may be "only a machine".
ROLE = re.compile(
    r"\bi(?:'m| am) (?:just |only |merely |simply )?(?:an? )?(?:computer(?: program)?|software|bot|robot|machine"
    r"|program|virtual \w+)\b(?! (?:\w+(?:er|or|ist|ian|man)s?|scien\w+|hardware|security|sales|support|house)\b)"
    r"|\bi (?:was|am|have been|'ve been) (?:not )?programmed\b"
    r"|\bi(?:'m| am) (?:just |only )?an? (?:\w+ )?assistant (?:designed|trained|created|here)"
    r"|\bi was (?:built|designed|made|created|trained) to (?:answer|help|assist|provide|generate|follow)\b"
    r"|\b(?:as|being) an? (?:bot|robot|assistant|computer program|machine|software)\b,? ?i\b"
)

# -- refusals of an answer

_UNABLE_TO = (
    rf"(?=[itycgo]){_LINKED}(?!we\b){_SELF}(?: (?:simply|really|just|also|currently|still|honestly|respectfully"
    rf"|personally|therefore))?\s?{_NOT} (?:[\w']+ ){{0,4}}?{_SERVE}"
    rf"|(?=we){_LINKED}we\s?(?:{_CANNOT}|{_UNABLE}|{_DECLINE}) (?:\w+ )?(?:answer|provid|process|fulfil|complet|comply"
    r"|assist|help|generat|respond|shar|disclos|discuss)(?:e|l)?\b"
    rf"|(?:{_SORRY})\b[^.!?\n]{{0,60}}?\b{_SELF}\s?(?:{_NOT}|{_LACK})"
    rf"|{_STARTS}{_SORRY},? but (?:{_NOT}|{_LACK}|(?:this|that|it|there|the|your|as)\b[^.!?\n]{{0,60}}\b(?:not|cannot"
    "|can't|no|unable|beyond|outside|against|inappropriate))"
    rf"|{_STARTS}{_SORRY},? (?:but )?i (?:didn't|did not|don't|do not)\b"
    rf"|(?=un|not){_STARTS}(?:unable|not able|not possible) to (?:\w+ )?{_SERVE}"
    rf"|(?=can){_LINKED}(?:cannot|can't|can not) (?:answer|help (?:you|with)|assist|comply|provide)\b"
    rf"|(?=i){_LINKED}i (?:\w+ )?(?:decline|refuse)\b"
    rf"|(?=i){_LINKED}i(?: \w+)? {_DECLINE} (?:\w+ )?{_SERVE}"
    r"|i must (?:\w+ )?(?:decline|refuse|refrain)\b"
    r"|(?:i|we)(?:'m| am|'ll| will)?(?: going)?(?: to)? have to (?:\w+ )?(?:decline|refuse|refrain|pass on)\b"
    rf"|i(?:'d| would) (?:rather|prefer)(?: to)? (?:not|avoid)(?: to)? (?:\w+ )?(?:{_SERVE}|this|that|{_ASKED})"
    r"|i(?:'m| am) not (?:\w+ )?(?:sure (?:i can|how to (?:answer|help|respond))|comfortable (?:with )?\w+ing"
    r"|in a position to|(?:allowed|permitted|authori[sz]ed|at liberty) to (?:\w+ )?(?:say|answer|share|tell|give"
    "|do (?:so|that|this)))"
    rf"|i (?:do not|don't) (?:feel comfortable|(?:think|believe) i (?:can|could|should) (?:\w+ )?{_SERVE})"
    r"|i (?:would not|wouldn't|don't|do not) feel (?:\w+ )?(?:right|comfortable|able)\b"
    r"|i can neither (?:confirm|answer)\b"
)
_LACKS = (
    r"i(?: \w+)? (?:do not|don't|lack|have no|have not|haven't|was not|were not|am not|did not|didn't)(?: (?:currently"
    "|yet|actually|presently))? ?(?:(?:have|possess|hold|been (?:given|granted|provided(?: with)?)|given|granted|got"
    "|the|any|an?|enough|sufficient|direct|real|real-time|required|necessary|needed|such|specific) )*(?:access"
    "|abilit(?:y|ies)|capabilit(?:y|ies)|capacity|permission|clearance|authori[sz]ation|authority|information|data"
    "|knowledge|context|details|personal|physical|opinions?|feelings|emotions|beliefs|preferences|memor(?:y|ies)|body"
    r"|consciousness|means (?:to|of)|way (?:to|of)|answer|record of)\b"
    r"|i (?:do not|don't|cannot|can't) (?:hold|have|form|express|experience|feel) (?:\w+ ){0,2}(?:opinions?|views?"
    r"|beliefs?|emotions?|feelings?|preferences)\b"
    "|(?:abilit(?:y|ies)|capabilit(?:y|ies)|permission|access|function|feature|information|answer"
    r"|data)\b[^.!?\n]{0,40}(?: is| are| was| has| have|n't| not)(?: not)?(?: been)? (?:available|granted|given"
    r"|provided|accessible) (?:to|for) (?:me|us)\b"
    rf"|{_OWN} (?:do|does)(?: not|n't) (?:extend|include|cover|allow|permit|enable|let|reach|go)\b"
    r"|no (?:way|means|possibility) (?:for me to|of (?:my )?(?:knowing|checking|telling|verifying))\b"
    r"|i have no (?:way|means) (?:of|to)\b"
    "|(?:outside|beyond|against|not within|n't within|goes against|exceeds?|not part of) (?:of )?(?:the (?:scope"
    r"|limits|range|bounds) of (?:my|what i)|what i (?:can|am|know|was)|my (?:\w+ )?(?:scope|capabilit|abilit"
    "|expertise|knowledge|area|guidelines|programming|polic|limits|training|ethical|current|remit|power|reach"
    "|competence|purview|means|range|role|rules|principles))"
    r"|i(?:'m| am) not an? (?:\w+ )?(?:human(?: being)?|person|doctor|lawyer|attorney|physician|(?:medical|financial"
    r"|legal) \w+)\b,? (?:so|and|but|nor|i)\b"
    rf"|^(?:{_SORRY},? (?:but )?)?i(?:'m| am) not (?:\w+ )?(?:aware of|familiar with|(?:certain|sure) (?:how|what"
    r"|about))\b"
    r"|i(?:'m| am) (?:not capable|incapable) of (?:feeling|having|experiencing|forming|thinking)\b"
)
_RULES = (
    rf"{_RULE} (?:\w+ ){{0,3}}?(?:prevent|prohibit|forbid|stop|keep|restrict|bar|preclude|disallow|require|(?:do"
    r"|does)(?: not|n't) (?:\w+ )?(?:allow|permit|let|enable))s? (?:me|us|this (?:ai|assistant|model|chatbot)|answers"
    r"|responses|(?:such|this|that) (?:content|answers?|responses?|requests?))\b"
    rf"|{_BREAKS} {_WHOSE_RULE}"
    rf"|(?:this|that|the|your|such(?: an?)?)(?: \w+)? (?:{_ASKED}) (?:\w+ )?(?:goes against|go against|is against"
    "|violat|breach|conflict|contraven|break|infring|(?:is|falls|goes) (?:outside"
    "|beyond)(?! (?:of )?the scope of (?:this|the|our))|is not something|isn't something|is something i"
    "|is in (?:violation|breach))"
    r"|i(?:'m| am) programmed not to\b"
)
_DONE = (
    "(?:answered|completed|fulfilled|fulfil|processed|carried out|executed|generated|provided|handled|produced|given"
    "|displayed|performed|done)"
)
_IMPERSONAL = (
    rf"(?:this|that|the|your|an?|such)(?: (?:type|kind|sort) of)?(?: requested)? {_ASKED}(?: to (?:this|that|your"
    rf"|the) \w+)? (?:can ?not|cannot|can't|could not|couldn't|will not|won't|may not|must not) be {_DONE}\b"
    rf"|no {_ASKED} (?:can|could|may|will|is|was) (?:be )?(?:available|{_DONE})\b"
    r"|(?:can ?not|cannot|can't) be (?:\w+ )?by an? (?:\w+ )?(?:gpt\S*|language model|ai)\b"
    r"|(?:it|that|this|such)(?:'d| would| will)?(?: not|n't)?(?: be|'s| is) (?:not )?(?:\w+ )?(?:(?:in|un"
    "|im)?(?:appropriate|ethical|possible|safe)|(?:ir)?responsible|wrong|right|proper|improper) (?:for|of) (?:me"
    r"|an? (?:\w+ )?(?:ai|language|gpt))\b"
    r"|(?:wouldn't be|not be|not|im) ?(?:possible|appropriate|right) for (?:me|an? (?:\w+ )?(?:ai|language model"
    r"|gpt\S*|model)) to\b"
    rf"|(?:inappropriate|appropriate) for me to {_SERVE}"
    r"|(?:the|a|an|this|any) (?:assistant|bot|gpt\S*|(?:gpt )?(?:language|ai) (?:language )?model|chatbot"
    "|ai) (?:can ?not|cannot|can't|is unable|is not able|does not have)"
    r"|(?:the|this) (?:model|system) (?:cannot|can't|is unable to|is not able to) (?:\w+ )?(?:answer|respond|reply"
    "|assist|help|comply|fulfil|generate (?:a|an|this|that) (?:answer|response|reply)|complete (?:this|that"
    "|the) (?:request|task))"
    r"|(?:not|(?:is|was|are)n't|nope,?) (?:really )?(?:an? |the )?(?:something|anything|(?:kind|sort|type) of \w+"
    rf"|{_ASKED}|thing) (?:that |which )?i(?:'m| am|'d)? ?(?:can|could|may|will|able|allowed|permitted|willing"
    r"|comfortable|would|want)\b"
    rf"|(?:something|anything|{_ASKED}|thing) (?:that |which |on which )?i(?:'m| am|'d)? ?(?:can't|cannot|can not"
    "|not able|unable|not allowed|won't|would rather|rather|will not|prefer not)"
    "|i (?:can|could) only (?:provide|answer|help|assist|offer|discuss|generate|process)"
    rf"|(?=[rqp]){_STARTS}(?:request|query|prompt|question) (?:was |is |has been )?(?:denied|refused|rejected|blocked"
    r"|declined)\b"
    r"|no (?:information|answer) (?:is )?(?:available|provided)\b"
)
_GRASP = (
    "(?:understand(?:ing)?|follow(?:ing)?|grasp|comprehend|interpret(?:ing)?|pars(?:e|ing)|catch|get|make (?:sense"
    "|out)|making (?:sense|out))(?: of)?(?: exactly| fully)?"
)
_UNCLEAR = (
    rf"(?=i){_LINKED}i(?:'m| am)? ?(?:\w+ )?(?:do not|don't|did not|didn't|could not|couldn't|cannot|can't"
    "|not sure (?:that )?i|not certain i|unable to|failed to|have(?: some)? (?:trouble|difficulty)"
    "|having (?:some )?(?:trouble|difficulty|problems)|struggling to"
    rf"|not (?:quite )?able to) (?:\w+ )?{_GRASP}(?: (?:what you|your|(?:the|this|that) {_ASKED}|you\b|that\b|this\b"
    r"|it\b)|[.!?,]|$)"
    rf"|(?=i){_LINKED}i (?:do not|don't|didn't|did not) know(?: (?:the answer|what you|your|how to (?:answer|respond)"
    r"|that)\b|[.!]|$)"
    r"|(?:could|can|would|will) you (?:please |kindly |perhaps |mind )?(?:rephras\w+|clarify\w*|reword\w*|restat\w+"
    r"|elaborat\w+|be more specific)"
    rf"|^(?:{_SORRY}[^.!?]{{0,40}}[.,] (?:but )?)?(?:could|can|would) you (?:please |kindly )?(?:provid|giv|shar"
    rf"|send)\w* (?:me )?(?:with )?(?:some |any |a little )?{_MORE} (?:\w+ )?{_DETAILS}"
    r"|(?:please|kindly|try|trying) (?:to )?(?:rephras\w+|reword\w*|restat\w+) (?:your|the|it|that|this|what)"
    r"|(?:please|kindly) clarify (?:your|the|that|this|what)\b"
    "|please (?:provide|give|share|supply|specify|include|send"
    r"|upload)(?: me)?(?: with)? [^.!?\n]{0,60}(?:\bso (?:that )?i can|\b(?:in order )?for me to|\band i(?:'ll| will"
    r"| can))\b"
    rf"|your {_ASKED} (?:is|was|seems|appears|isn't|wasn't|does not|doesn't) (?:\w+ ){{0,3}}(?:unclear|ambiguous|clear"
    r"|incomplete|vague|make sense|understandable|specific enough)\b"
    rf"|(?=it){_LINKED}(?:(?:it is|it's) (?:\w+ )?unclear|(?:it is not|it isn't"
    r"|it's not) (?:\w+ )?clear)(?: to me)? (?:what|which) (?:you|your|the question)"
    rf"|i(?:'d| would|'ll| will)? ?(?:need|require) (?:\w+ ){{0,2}}?(?:more|additional|further) (?:\w+ )?{_DETAILS}\b"
    rf"|without (?:any )?(?:more|further|additional) (?:\w+ )?{_DETAILS}\b[^.!?\n]{{0,20}}\bi\b"
    "|(?:you|the (?:prompt|task|input|request|instruction)) (?:did not|didn't|have not|haven't|has not|hasn't"
    r"|forgot to) (?:\w+ )?(?:provide|include|attach|specif|give|supply|upload|share)"
    r"|no (?:\w+ )?(?:image|text|passage|input|file|document|attachment|context|link|picture) (?:is|was|has been"
    r"|were) (?:\w+ )?(?:attached|provided|given|included|supplied|uploaded|shared)\b"
    r"|(?:not enough|insufficient|no|too little) (?:\w+ )?(?:information|context"
    r"|details?)\b(?: \w+){0,4} to (?:answer|complete|respond|fulfil|solve (?:this|the) (?:task|problem))"
)
_CHANGES = (
    rf"(?=[lsw]){_STARTS}(?:let's|let us|shall we|we should|why don't we) (?:talk about (?:something|another)"
    "|change the (?:subject|topic)|move on to (?:something|another)|discuss something else)"
    r"|(?:you(?:'ll| will)? (?:have|need) to|you should|please) (?:ask|consult|contact) (?:someone|somebody) else\b"
    r"|my (?:previous|earlier) (?:answer|response|reply)\b"
)


def _words(pattern: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w'])(?=[a-z])(?:{pattern})")  # only where a word begins: four times as fast


UNABLE, LACKS, RULES = _words(_UNABLE_TO), _words(_LACKS), _words(_RULES)
IMPERSONAL, UNCLEAR, CHANGES = _words(_IMPERSONAL), _words(_UNCLEAR), _words(_CHANGES)
# The whole of a short answer.
SHRUG = re.compile(
    rf"(?:(?:{_SORRY}|hmm|well|no|nope),? (?:but )?)?(?:i (?:have|'ve) no (?:idea|clue)(?: what you \w+)?"
    r"|i(?:'m| am) not sure|i (?:really )?(?:don't|do not) know|i decline|not sure)[.!]*"
)

APOLOGY = re.compile(rf"\W*{_SORRY}\b")
# What a sentence holds that refuses in the midst of a text: a thing that is asked of an assistant.
TOPIC = re.compile(
    rf"\b(?:{_ASKED}|assist|assistance|help (?:you )?with|polic(?:y|ies)|guidelines|model|generate|comply|fulfill?"
    "|website|internet|link|article|context|file|capabilit(?:y|ies)|abilities|permission|restrictions|websites"
    r"|picture|advice|rephrase|restat(?:e|ing)|rephrase|clarify|write (?:this|that))\b"
)
PERSONAL = re.compile(
    r"\b(?:help(?! you| with)|say|describe|tell|express|explain|remember|recall|understand|memory|look|give|make"
    r"|do (?:that|this|so)|know|follow)\b"
)
PAST = re.compile(
    r"\b(?:i|we|he|she|they|you|it|who|had|that|and|to|him|her|nor) (?:\w+ )?(?:was|were|could(?! you)|had|did|didn't"
    r"|couldn't|wasn't|refused|declined)\b"
)
SENTENCE_END = re.compile(r"[.!?][\"”’')\]]{0,2}\s+|\n\s*\n")

# -- other languages

OTHER_LANGUAGES = re.compile(
    "lo siento,? pero (?:no|como)"
    "|como (?:un )?modelo de (?:lenguaje|linguagem|língua)"
    "|no puedo (?:ayudar|responder|proporcionar|cumplir|asistir)"
    "|(?:sinto muito|desculpe),? mas (?:não|eu não|como)"
    "|não posso (?:ajudar|responder|fornecer|atender)"
    "|je suis désolé,? mais je ne"
    "|en tant qu(?:e modèle de langage|'ia|'assistant)"
    "|je ne peux pas (?:vous aider|répondre|fournir)"
    "|tut mir leid,? (?:aber )?(?:ich|das|als)"
    "|als (?:ki|ein)[ -]?(?:sprachmodell|assistent)"
    r"|ich kann (?:ihnen |dir )?(?:dabei|damit|diese \w+|hierbei) nicht"
    "|mi dispiace,? ma (?:non|come)"
    "|come modello linguistico"
    "|non posso (?:aiutar|rispondere|fornire)"
    "|(?:抱歉|对不起|不好意思)[，,]?.{0,12}(?:无法|不能|不会|没有办法)"
    "|作为(?:一个|一名|一款)?(?:人工智能|ai|语言模型|大型语言)"
    "|我(?:无法|不能)(?:回答|提供|帮助|协助|完成)"
    "|申し訳(?:ありません|ございません).{0,20}(?:できません|お答え|いたしかねます|ません)"
    "|(?:言語モデル|aiアシスタント)として"
    "|お答えできません"
    "|죄송하지만.{0,30}(?:수 없|수는 없|못 |않습)"
    "|(?:언어 모델|인공지능|ai)(?:로서|로써)"
    "|답변(?:할|을 드릴) 수 없"
    "|извините,? но я не"
    "|к сожалению,? я не могу"
    r"|как (?:языковая модель|искусственный интеллект|ии)\b"
    "|عذرا.{0,10}لا (?:أستطيع|يمكنني)"
    "|آسف.{0,10}لا (?:أستطيع|يمكنني)"
    "|كنموذج لغ"
    "|मुझे खेद है.{0,30}(?:नहीं|असमर्थ)"
    "|ขออภัย.{0,20}ไม่สามารถ"
)
