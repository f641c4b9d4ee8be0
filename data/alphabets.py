"""What legacy encodings were used for, as data: which letters beyond ASCII a language writes, commonest first.

data/decoding.py weighs each pair of a language and an encoding: text that is decoded by the right one consists of
these letters. The orders, shares and densities are rough: general knowledge, not counted in files.
"""

from typing import NamedTuple


class Language(NamedTuple):
    """`share`: how common its files are among files that are not UTF-8; `density`: which part of its words holds such
    a letter (0: not asked); `encodings`: the commonest first."""

    name: str
    share: float
    density: float
    encodings: tuple[str, ...]
    letters: str


_WEST = ("cp1252", "mac_roman", "cp850", "cp437")
_CENTRAL = ("cp1250", "iso8859_2", "cp852", "mac_latin2")
_BALTIC = ("cp1257", "iso8859_13", "iso8859_4")
_TURKISH = ("cp1254", "cp857", "mac_turkish")
_CYRILLIC = ("cp1251", "koi8_r", "iso8859_5", "cp866", "mac_cyrillic")

LANGUAGES = [
    Language("French", 8, 0.15, _WEST, "éàèêçôîùâûëïœæüÿ"),
    Language("Spanish", 8, 0.1, _WEST, "óáíéñúü¿¡"),
    Language("German", 8, 0.1, _WEST, "üäöß"),
    Language("Portuguese", 6, 0.12, _WEST, "ãçéáíóõêúâàôü"),
    Language("Italian", 4, 0.03, _WEST, "èàùòéìî"),
    Language("Catalan", 1, 0.1, _WEST, "óàéèçíòïúü·"),
    Language("Danish, Norwegian", 3, 0.12, _WEST, "øåæéóêòàô"),
    Language("Swedish, Finnish", 3, 0.2, _WEST, "äåöéà"),
    Language("Icelandic, Faroese", 1, 0.4, _WEST, "áíðéóúöæþýø"),
    Language("Dutch, Frisian", 2, 0.02, _WEST, "ëéïèöüóêâúô"),
    Language("Irish", 0.5, 0.25, _WEST, "áéíóú"),
    Language("Scottish Gaelic", 0.2, 0.15, _WEST, "àèìòù"),
    Language("Albanian", 0.3, 0.25, (*_WEST, "cp1250"), "ëç"),
    Language("Estonian", 0.3, 0.2, ("cp1252", *_BALTIC), "äõüöšž"),
    Language("any of the west", 10, 0, _WEST, "éáíóñèàêëïôöüäçâîûúùãõòìåøæßœÿžš¿¡"),
    Language("Polish", 2, 0.3, _CENTRAL, "łęąóżśćńź"),
    Language("Czech", 2, 0.45, _CENTRAL, "íáéěřčýžšůúňťďó"),
    Language("Slovak", 1, 0.4, _CENTRAL, "áíéčýžšúľťňôďäóĺŕ"),
    Language("Hungarian", 1, 0.4, _CENTRAL, "áéöíóőüúű"),
    Language("Croatian, Slovene, Bosnian, Serbian", 1, 0.15, _CENTRAL, "čžšćđ"),
    Language("Romanian", 1, 0.25, _CENTRAL[:3], "ăîâşţ"),
    Language("Sorbian", 0.1, 0.35, _CENTRAL, "ěłćšóžńčřź"),
    Language("any of the centre", 0.2, 0, _CENTRAL, "áéíóčšžöüěřłśćńőűăîâşţąężźťňďůúýäôđ"),
    Language("Turkish", 2, 0.4, _TURKISH, "ıüşçğöâîû"),
    Language("Lithuanian", 0.5, 0.3, _BALTIC, "ėšųįžūčęą"),
    Language("Latvian", 0.5, 0.4, _BALTIC, "āīšēņūļžķģč"),
    Language("Vietnamese", 0.5, 0.7, ("cp1258",), "\u0301\u0300ô\u0323ưđâêơă\u0309\u0303ýíáàéèóòúùĩũõãì"),
    Language("Russian", 10, 0, _CYRILLIC, "оеаинтсрвлкмдпуяыьгзбчйхжшюцщэфъё"),
    Language("Ukrainian", 2, 0, ("cp1251", "koi8_u", "iso8859_5"), "оаинвірестклудмпзяьбгчйїхцжєюшфщґ"),
    Language("Belarusian", 0.5, 0, ("cp1251", "iso8859_5"), "анісероылтдкпвузямцьгўбчжхэюшйёф"),
    Language("Bulgarian", 1, 0, _CYRILLIC, "аиоетнрсвлкдпмзубчгъщяцйжхшюфь"),
    Language("Serbian", 0.5, 0, ("cp1251", "iso8859_5", "mac_cyrillic"), "аоиенрстјувдкмлпзгбчшњцћжљђхџф"),
    Language("Macedonian", 0.2, 0, ("cp1251", "iso8859_5"), "аоитенрсвдлкупмзјбгчшцќжњхѓџљфѕ"),
    Language("Kazakh", 0.2, 0, ("kz1048", "ptcp154"), "аеыінтрлдсқомкбуғйпжңшзәөүхвһұиэюяцчщ"),
    Language("Greek", 2, 0, ("cp1253", "iso8859_7", "mac_greek", "cp737"), "αοιετσνηυρπκμλδωγθχςόίφβάέξζήψύώϊϋΐΰ"),
    Language(
        "Hebrew",
        1,
        0,
        ("cp1255", "iso8859_8", "cp862"),
        "יוהלארתבשמנדםפקעכטחסזגןךצףץ־\u05b7\u05b8\u05b6\u05b4\u05b0\u05b5\u05bc\u05b9\u05c1\u05c2",
    ),
    Language("Arabic", 2, 0, ("cp1256", "iso8859_6"), "الينموتربعدسفهكقحجأةشطصخىإضذئثظزغءؤآ،؛؟ًّ"),
    Language("Persian, Urdu", 0.5, 0, ("cp1256",), "اینردهمتوسبشکزلگفقخعپجحچصطژضآثغظذءئ،؛؟ےںٹڈڑھہ"),
    Language("Thai", 1, 0, ("cp874",), "านรอกเง่มยลวดทส้ตัะปิีบคห์แจพำุูใชขไถโผซธึื็ศภณญษฎฉฒฐ"),
    Language(
        "Chinese, simplified",
        5,
        0,
        ("gb18030",),
        "，的。、一人有权和国任何不利由在或得其自为是会以所他本之法家应了我这",
    ),
    Language(
        "Chinese, traditional", 3, 0, ("cp950",), "，的。、一是不人有在我他為這了國大中會來以個也上和們到時說要地出就得"
    ),
    Language(
        "Japanese",
        5,
        0,
        ("cp932", "euc_jp"),
        "のにいをはたるとがてしなでか、。れらもすっりこあうさきくんまそおけつどめよせだちー",
    ),
    Language("Korean", 3, 0, ("cp949",), "이다의는에을고가를하지한은로기도사나서리아자시어해그대인스정일과있보"),
]
CHARACTER_SETS = {"gb18030": "gb2312", "cp950": "big5", "cp932": "shift_jis", "euc_jp": "euc_jp", "cp949": "euc_kr"}
RARE = dict.fromkeys(("mac_roman", "mac_latin2", "mac_turkish", "cp850", "cp852", "cp437", "cp857"), 0.0005)
PUNCTUATION = "\xa0“”‘’‚„–—…«»‹›•·°§©®™€£¡¿ºª²³½¼¾´×±\xad№、。，．・「」『』（）？！：；\u3000"
LIKELY_MARKS = {"’": 0.35, "\xa0": 0.35, "“": 0.1, "”": 0.1, "–": 0.1, "—": 0.05}  # the rest: 0.01 each
