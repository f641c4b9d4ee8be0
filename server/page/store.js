// What the browser keeps: the conversation and the settings in localStorage, the key in sessionStorage, nothing else.
//
//   conversation  {turns: [turn], first: [a, b]}   column c sends its turns from number first[c] on
//   turn          {question, answers: [answer, ...]}                         one a column
//   answer        {model, text, ended, error, tokens, rate, along, leftOut, full}
//     ended       "stop" or "length" as the server says, "either" for a stop where stop texts were given, "you", or null
//                 while it comes
//     error       {line, remedy} or null
//     tokens      {read, written}, or {pieces} where the server did not count; rate: of tokens a second
//     along       earlier turns that were sent along; leftOut: the oldest ones that were not
//     full        whether it was cut off because the context holds no more

const CONVERSATION = "loam.conversation";
const SETTINGS = "loam.settings";
const KEY = "loam.key";
const MOST = 1_000_000; // characters of a conversation; browsers give a host about 5 million

export const noConversation = () => ({ turns: [], first: [0, 0] });

export const noAnswer = (model) => ({
  model, text: "", ended: null, error: null, tokens: null, rate: null, along: 0, leftOut: 0, full: false,
});

export function loadConversation() {
  const kept = read(localStorage, CONVERSATION);
  if (!Array.isArray(kept?.turns) || !Array.isArray(kept?.first)) return noConversation();
  for (const answer of kept.turns.flatMap((turn) => turn.answers)) {
    if (answer.ended === null && !answer.error) {
      answer.error = { line: "This answer was interrupted.", remedy: "retry" };
    }
  }
  return kept;
}

// Keeps a conversation, its oldest turns left out (there too) where it is too long. Returns whether it is kept.
export function keepConversation(conversation) {
  if (!conversation.turns.length) return remove(localStorage, CONVERSATION);
  let text = JSON.stringify(conversation);
  while (text.length > MOST && conversation.turns.length > 1) {
    conversation.turns.shift();
    conversation.first = conversation.first.map((first) => Math.max(0, first - 1));
    text = JSON.stringify(conversation);
  }
  return text.length <= MOST && write(localStorage, CONVERSATION, text);
}

export const DEFAULTS = { temperature: "0.7", top_k: "50", max_tokens: "256" }; // as chat.py; the API's own are meant for large models
export const loadSettings = () => read(localStorage, SETTINGS) ?? { ...DEFAULTS };
export const keepSettings = (settings) => write(localStorage, SETTINGS, JSON.stringify(settings));
export const loadKey = () => read(sessionStorage, KEY) ?? "";
export const keepKey = (key) => (key ? write(sessionStorage, KEY, JSON.stringify(key)) : remove(sessionStorage, KEY));

export function forget() {
  remove(localStorage, CONVERSATION);
  remove(localStorage, SETTINGS);
  remove(sessionStorage, KEY);
}

// Numbers of the turns that a column sends along with the last question: those that it answered, if only in part.
export function sentTurns({ turns, first }, column) {
  return [...turns.keys()].slice(first[column], -1).filter((number) => {
    const answer = turns[number].answers[column];
    return answer?.ended && !answer.error && answer.text;
  });
}

// The messages of the API that ask a column for its answer to the last question.
export function messages(conversation, column, context) {
  const sent = context ? [{ role: "system", content: context }] : [];
  for (const { question, answers } of sentTurns(conversation, column).map((number) => conversation.turns[number])) {
    sent.push({ role: "user", content: question }, { role: "assistant", content: answers[column].text });
  }
  return [...sent, { role: "user", content: conversation.turns.at(-1).question }];
}

// Storage may be switched off or full: the page then works without it.
function read(storage, name) {
  try {
    return JSON.parse(storage.getItem(name));
  } catch {
    return null;
  }
}

function write(storage, name, text) {
  try {
    storage.setItem(name, text);
    return true;
  } catch {
    return false;
  }
}

function remove(storage, name) {
  try {
    storage.removeItem(name);
    return true;
  } catch {
    return false;
  }
}
