// The page: a conversation with one checkpoint, or with two side by side, each with its own history.
//
// A question becomes a turn; each column asks its model for an answer (api.js) and shows it as it comes (view.js), as the
// settings say (settings.js); once it has ended it is kept (store.js).
import { Trouble, answer as ask } from "/page/api.js";
import * as settings from "/page/settings.js";
import * as store from "/page/store.js";
import * as view from "/page/view.js";

const { $ } = view;
let conversation = store.loadConversation();
const running = new Map(); // column -> AbortController of the answer that comes

// ---- asking

function send() {
  const question = $("question").value.trim();
  if (!question || running.size || !settings.areReady()) return;
  $("question").value = "";
  view.notify("");
  const models = settings.columns();
  conversation.turns.push({ question, answers: models.map((model) => store.noAnswer(model)) });
  showConversation(conversation.turns.length - 2); // the one before loses its buttons
  models.forEach((_, column) => answerLast(column));
  window.scrollTo(0, document.documentElement.scrollHeight);
}

// Asks a column for its answer to the last question, in place of the one that it may have given.
async function answerLast(column) {
  const turn = conversation.turns.at(-1);
  const answer = store.noAnswer(settings.columns()[column] ?? turn.answers[column].model);
  turn.answers[column] = answer;
  answer.along = store.sentTurns(conversation, column).length;
  answer.leftOut = conversation.first[column];
  const control = new AbortController();
  running.set(column, control);
  showAnswer(column);
  showState();
  keep();

  const messages = store.messages(conversation, column, settings.context());
  const body = { model: answer.model, messages, ...settings.sampling() };
  const began = performance.now();
  let pieces = 0;
  try {
    for await (const event of ask(body, store.loadKey(), control.signal)) {
      if (event.text) {
        pieces += 1;
        answer.text += event.text;
        drawSoon(column);
      }
      if (event.ended) answer.ended = event.ended === "stop" && body.stop ? "either" : event.ended;
      if (event.tokens) answer.tokens = event.tokens;
    }
  } catch (error) {
    if (control.signal.aborted) answer.ended ??= "you";
    else if (!answer.ended) answer.error = told(error, column);
  }
  const seconds = (performance.now() - began) / 1000;
  answer.tokens ??= pieces ? { pieces } : null; // the count comes last: an answer that was stopped has none
  const written = answer.tokens?.written ?? pieces;
  // From the question on: a browser may see the first token with the last, and 19,000 a second would be its own speed.
  if (pieces > 0 && seconds > 0) answer.rate = written / seconds;
  answer.full = answer.ended === "length" && answer.tokens?.read + written >= settings.holds(answer.model);
  if (running.get(column) === control) running.delete(column); // else another conversation has begun and asks by now
  if (conversation.turns.at(-1) !== turn) return; // another conversation has begun
  view.atBottom(() => showAnswer(column));
  showState();
  view.say(answer.error?.line ?? `${answer.model} answered: ${answer.text || "nothing"}`);
  keep();
}

// What went wrong, as an answer keeps it: {line, remedy}.
function told(error, column) {
  if (!(error instanceof Trouble)) return { line: `The page failed: ${error}`, remedy: "retry" };
  if (error.remedy !== "shorten") return { line: error.message, remedy: error.remedy };
  if (conversation.turns.at(-1)?.answers[column]?.along) {
    return { line: `${error.message} Leave out the oldest turns, or begin a new conversation.`, remedy: "shorten" };
  }
  return { line: `${error.message} Write less, or shorten the context in Settings.`, remedy: "settings" };
}

// What the buttons of an answer do.
function act(action, column) {
  if (action === "settings") settings.open();
  if (action !== "retry" && action !== "shorten") return;
  if (running.has(column) || !settings.areReady()) return;
  if (action === "shorten") {
    const sent = store.sentTurns(conversation, column); // from now on the newer half of them
    conversation.first[column] = sent[Math.ceil(sent.length / 2) - 1] + 1;
  }
  $("question").focus(); // the button goes
  answerLast(column);
}

function stop() {
  for (const control of running.values()) control.abort();
}

// ---- showing

function showConversation(from = 0) {
  conversation.turns.forEach((turn, number) => {
    if (number < from) return;
    if (!$("turns").children[number]) $("turns").append(view.turnElement(turn));
    turn.answers.forEach((_, column) => showAnswer(column, number));
  });
  showState();
}

function showAnswer(column, number = conversation.turns.length - 1) {
  const answer = conversation.turns[number].answers[column];
  const row = $("turns").children[number].querySelector(".answers");
  while (row.children.length <= column) row.append(view.answerElement());
  view.showAnswer(row.children[column], answer, number === conversation.turns.length - 1, (action, button) => {
    if (action === "copy") view.copy(answer.text, button);
    else act(action, column);
  });
}

const toDraw = new Set();

function drawSoon(column) {
  if (!toDraw.size) requestAnimationFrame(draw);
  toDraw.add(column);
}

function draw() {
  view.atBottom(() => {
    for (const column of toDraw) {
      if (running.has(column)) showAnswer(column);
    }
  });
  toDraw.clear();
}

function showState() {
  const two = settings.isComparing() || conversation.turns.some((turn) => turn.answers.length > 1);
  document.documentElement.dataset.columns = two ? "2" : "1";
  $("empty").hidden = conversation.turns.length > 0;
  $("send").textContent = running.size ? "Stop" : "Send";
  $("send").classList.toggle("stops", running.size > 0);
}

// ---- keeping

function keep() {
  if (!store.keepConversation(conversation)) view.say("This conversation is not kept: the browser has no room for it.");
  while ($("turns").children.length > conversation.turns.length) $("turns").firstElementChild.remove();
}

function begin(next) {
  stop();
  running.clear();
  conversation = next;
  $("turns").replaceChildren();
  showConversation();
  keep();
  $("question").focus();
}

function startNew() {
  const before = conversation;
  begin(store.noConversation());
  if (before.turns.length) view.notify("A new conversation has begun.", "Undo", () => begin(before));
}

function forget() {
  $("settings").close();
  $("question").value = "";
  settings.forget();
  begin(store.noConversation());
  view.notify("");
  view.say("Everything is forgotten.");
}

// ---- what a person does

$("composer").addEventListener("submit", (event) => event.preventDefault());
$("send").addEventListener("click", (event) => {
  if (event.detail > 1) return; // the second half of a double click would stop what the first began
  if (running.size) stop();
  else send();
});
$("question").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  send();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !$("settings").open) stop();
});
$("new").addEventListener("click", startNew);
$("forget").addEventListener("click", forget);
window.addEventListener("pagehide", () => running.size && keep());

settings.start(showState);
showConversation();
window.scrollTo(0, document.documentElement.scrollHeight);
$("question").focus({ preventScroll: true });
