"""What must not stand in a corpus: addresses, telephone and card numbers, keys. All invented at random.

And what resembles it: card numbers with a wrong checksum, prices, years, ISBNs, hashes, placeholders of keys.
"""

import base64
import random
import string
import uuid

from bench.planted.rows import insert
from bench.planted.sources import Row, pick
from bench.planted.truth import luhn

LOWER, UPPER, DIGITS = string.ascii_lowercase, string.ascii_uppercase, string.digits
FIRST = "anna|ben|carla|dmitri|elif|frank|grace|hiro|ines|jakob|karim|lena|marco|noor|olga|paul"
LAST = "albers|bianchi|cohen|duarte|eriksen|fischer|gupta|hansen|ito|jovic|kim|lopez|meyer|novak"
DOMAINS = "post|mailbox|fastnet|uni-west|bluewin|acme-tools|harbour-law|gmx|kestrel-it|school12|clinic"
ENDINGS = "com|org|net|de|fr|co.uk|edu|io|it|pl|com.br|ac.jp|info"


def text_of(rng: random.Random, alphabet: str, length: int) -> str:
    """Random characters of an alphabet."""
    return "".join(rng.choice(alphabet) for _ in range(length))


# -- of people


def pii(row: Row, rng: random.Random) -> Row:
    """A mail address, a telephone number or a card number in a sentence."""
    made, frames = rng.choice(((mail, MAIL_FRAMES), (phone, PHONE_FRAMES), (card, CARD_FRAMES)))
    return insert(row, rng.choice(frames).format(made(rng)), rng)


MAIL_FRAMES = (
    "Write to {} if anything is missing.",
    "Contact: {}",
    "From: {}",
    "({})",
    "My address is {}, please send it there.",
    "mailto:{}",
    "<{}> wrote:",
    "Posted by {} on Tuesday",
)
PHONE_FRAMES = (
    "Call {} for details.",
    "Tel.: {}",
    "Phone {}",
    "You can reach her at {} until six.",
    "fax {}",
    "Mobile: {}, after work only.",
    "He left the number {} on the desk.",
)
CARD_FRAMES = (
    "The card number is {}.",
    "Paid with {}",
    "Visa {} was charged.",
    "cc: {}",
    "Please charge it to my credit card, {}, as before.",
    "Card {} has been blocked.",
)


def mail(rng: random.Random) -> str:
    """An address of mail."""
    first, last, number = pick(rng, FIRST), pick(rng, LAST), str(rng.randint(1, 1999))
    local = rng.choice((f"{first}.{last}", f"{first}{number}", f"{first[0]}{last}", f"{first}_{last}", f"{last}+shop"))
    address = f"{local}@{pick(rng, DOMAINS)}.{pick(rng, ENDINGS)}"
    return rng.choice((address, address, address, address.upper(), address.title()))


def phone(rng: random.Random) -> str:
    """A telephone number in international form or that of the United States."""
    area, middle, line = rng.randint(201, 989), rng.randint(200, 999), text_of(rng, DIGITS, 4)
    forms = (
        f"({area}) {middle}-{line}",
        f"{area}-{middle}-{line}",
        f"{area}.{middle}.{line}",
        f"+1 {area} {middle} {line}",
        f"+1-{area}-{middle}-{line}",
        f"1 ({area}) {middle}-{line}",
        f"+44 20 7{text_of(rng, DIGITS, 3)} {line}",
        f"+44 (0)161 {middle} {line}",
        f"+49 30 {text_of(rng, DIGITS, 7)}",
        f"+49 (0) 89 / {text_of(rng, DIGITS, 6)}",
        f"+33 1 {' '.join(text_of(rng, DIGITS, 2) for _ in range(4))}",
        f"+91-9{text_of(rng, DIGITS, 4)}-{text_of(rng, DIGITS, 5)}",
        f"+86 138 {text_of(rng, DIGITS, 4)} {line}",
        f"+39{text_of(rng, DIGITS, 10)}",
        f"0043 1 {text_of(rng, DIGITS, 3)} {line}",
    )
    return rng.choice(forms)


def card(rng: random.Random, right: bool = True) -> str:
    """A card number of 15 or 16 digits, in groups or not; its checksum right or wrong."""
    heads = (("4", 16), ("4", 16), (str(rng.randint(51, 55)), 16), (rng.choice(("34", "37")), 15))
    head, length = rng.choice(heads)
    digits = head + text_of(rng, DIGITS, length - len(head) - 1)
    digits += next(digit for digit in rng.sample(DIGITS, 10) if luhn(digits + digit) == right)
    groups = (4, 4, 4, 4) if length == 16 else (4, 6, 5)
    starts = [sum(groups[:i]) for i in range(len(groups))]
    return rng.choice((" ", "-", "")).join(digits[a : a + n] for a, n in zip(starts, groups, strict=True))


def isbn(rng: random.Random) -> str:
    """A book's number whose digits are no right card number."""
    while True:
        made = f"978-{rng.randint(0, 9)}-{text_of(rng, DIGITS, 2)}-{text_of(rng, DIGITS, 6)}-{rng.randint(0, 9)}"
        if not luhn(made):
            return made


def no_pii(row: Row, rng: random.Random) -> Row:
    """Numbers and signs that belong to nobody."""
    n, m = rng.randint(2, 999), rng.randint(10, 999)
    forms = (
        f"The number of the order is {card(rng, right=False)}.",
        f"Reference {card(rng, right=False)}",
        f"It cost ${rng.randint(1, 99)},{m:03}.{rng.randint(10, 99)} in {rng.randint(1800, 2023)}.",
        f"The war of {rng.randint(1600, 1900)}-{rng.randint(1901, 1950)} was long.",
        f"ISBN {isbn(rng)}",
        f"In all, {rng.randint(1, 9)},{m:03},{n:03},{m:03} people were counted.",
        f"That was on {rng.randint(1900, 2023)}-0{rng.randint(1, 9)}-{rng.randint(10, 28)} at 12:{n % 50 + 10}.",
        f"The place lies at {rng.randint(10, 80)}.{n:04}, -{rng.randint(10, 170)}.{m:04}.",
        f"Version {rng.randint(1, 9)}.{rng.randint(0, 40)}.{n} of the program is out.",
        f"Follow @{pick(rng, FIRST)}{n} for more, or meet us @ {pick(rng, LAST)}.",
        f"pi is 3.14159265358979{n}",
        f"The part has the number {text_of(rng, UPPER, 2)}-{text_of(rng, DIGITS, 7)}.",
        f"The score was {rng.randint(10, 30)}-{rng.randint(10, 30)}, {rng.randint(10, 30)}-{rng.randint(10, 30)}.",
    )
    return insert(row, rng.choice(forms), rng)


# -- of machines

WORD = LOWER + UPPER + DIGITS


def secret(row: Row, rng: random.Random) -> Row:
    """A key, a token, a private key or a password in a URL, as logs, settings and code carry them."""
    return insert(row, rng.choice(SECRETS)(rng), rng)


def _frame(rng: random.Random, name: str, value: str) -> str:
    frames = (
        f'{name} = "{value}"',
        f"{name}={value}",
        f"export {name.upper()}={value}",
        f'"{name}": "{value}",',
        f"Use the key {value} for now.",
        f"{name}: {value}",
        f"curl -H 'Authorization: Bearer {value}' https://api.example.com/v1",
        value,
    )
    return rng.choice(frames)


def _private_key(rng: random.Random) -> str:
    kind = rng.choice(("RSA ", "EC ", "OPENSSH ", "", "ENCRYPTED "))
    key = encoded(rng, rng.randint(300, 700))
    lines = [key[i : i + 64] for i in range(0, len(key), 64)]
    return "\n".join([f"-----BEGIN {kind}PRIVATE KEY-----", *lines, f"-----END {kind}PRIVATE KEY-----"])


def _jwt(rng: random.Random) -> str:
    head = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').decode().rstrip("=")
    load = base64.urlsafe_b64encode(
        f'{{"sub":"{rng.randint(1, 10**9)}","iat":{rng.randint(1, 10**9)}}}'.encode()
    ).decode()
    return f"{head}.{load.rstrip('=')}.{text_of(rng, WORD + '-_', 43)}"


def _connection(rng: random.Random) -> str:
    user, word = pick(rng, FIRST + "|admin|root|app"), text_of(rng, WORD + "_-!", rng.randint(8, 16))
    host = f"{rng.choice(('db', 'prod', 'cache', 'mq'))}{rng.randint(1, 9)}.{pick(rng, DOMAINS)}.{pick(rng, ENDINGS)}"
    forms = (
        f"postgres://{user}:{word}@{host}:5432/shop",
        f"postgresql+psycopg2://{user}:{word}@{host}/main",
        f"mysql://{user}:{word}@{host}:3306/wp",
        f"mongodb+srv://{user}:{word}@{host}/test?retryWrites=true",
        f"redis://:{word}@{host}:6379/0",
        f"amqp://{user}:{word}@{host}//",
        f"https://{user}:{word}@{host}/repo.git",
        f"ftp://{user}:{word}@{host}/pub",
        f"Server={host};Database=orders;User Id={user};Password={word};",
    )
    return rng.choice(forms)


def encoded(rng: random.Random, length: int) -> str:
    """Random bytes in base64."""
    return base64.b64encode(rng.randbytes(length)).decode()


def hook(rng: random.Random, length: int) -> str:
    """A part of the address of a web hook."""
    return text_of(rng, UPPER + DIGITS, length)


SECRETS = (
    lambda r: _frame(r, "aws_access_key_id", r.choice(("AKIA", "ASIA")) + text_of(r, UPPER + "234567", 16)),
    lambda r: f"aws_secret_access_key {r.choice('=:')} {text_of(r, WORD + '/+', 40)}",
    lambda r: _frame(r, "github_token", r.choice(("ghp_", "gho_", "ghs_")) + text_of(r, WORD, 36)),
    lambda r: _frame(r, "github_token", "github_pat_" + text_of(r, WORD, 22) + "_" + text_of(r, WORD, 59)),
    lambda r: _frame(r, "gitlab", "glpat-" + text_of(r, WORD + "-_", 20)),
    lambda r: _frame(
        r, "slack_token", f"xoxb-{text_of(r, '123456789', 12)}-{text_of(r, '123456789', 12)}-{text_of(r, WORD, 24)}"
    ),
    lambda r: f"https://hooks.slack.com/services/T{hook(r, 8)}/B{hook(r, 8)}/{text_of(r, WORD, 24)}",
    lambda r: _frame(r, "google_api_key", "AIza" + text_of(r, WORD + "-_", 35)),
    lambda r: _frame(r, "stripe_key", r.choice(("sk_live_", "rk_live_")) + text_of(r, WORD, 24)),
    lambda r: _frame(r, "openai_api_key", r.choice(("sk-", "sk-proj-")) + text_of(r, WORD, 48)),
    lambda r: _frame(r, "hf_token", "hf_" + text_of(r, LOWER + UPPER, 34)),
    lambda r: _frame(r, "npm_token", "npm_" + text_of(r, WORD, 36)),
    lambda r: _frame(r, "sendgrid", f"SG.{text_of(r, WORD + '-_', 22)}.{text_of(r, WORD + '-_', 43)}"),
    lambda r: f"DefaultEndpointsProtocol=https;AccountName={pick(r, LAST)};AccountKey={encoded(r, 64)}",
    lambda r: _frame(r, "token", _jwt(r)),
    _private_key,
    _private_key,
    _connection,
    _connection,
    _connection,
)


def no_secret(row: Row, rng: random.Random) -> Row:
    """Hashes, public keys, placeholders, and passwords as a subject."""
    forms = (
        f"commit {text_of(rng, 'abcdef' + DIGITS, 40)}",
        f"The request had the id {uuid.UUID(int=rng.getrandbits(128))}.",
        f"md5: {text_of(rng, 'abcdef' + DIGITS, 32)}",
        f"sha256:{text_of(rng, 'abcdef' + DIGITS, 64)}",
        "export OPENAI_API_KEY=<your-api-key>",
        'api_key = "YOUR_API_KEY_HERE"',
        "aws_access_key_id = AKIA****************",
        "Connect to postgres://localhost:5432/shop and try again.",
        "postgres://${DB_USER}:${DB_PASSWORD}@db/shop",
        f"The page is at https://www.{pick(rng, DOMAINS)}.com/a/{text_of(rng, WORD, 8)}?id={rng.randint(1, 999)}.",
        "The password must have at least eight characters and one digit.",
        f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{text_of(rng, WORD, 43)} {pick(rng, FIRST)}@laptop",
        f"The token '{pick(rng, LAST)}' is the third one of the line.",
        f"data:image/png;base64,iVBORw0KGgo{text_of(rng, WORD, 60)}",
        "sk-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    )
    return insert(row, rng.choice(forms), rng)
