// The conversation as elements. Text is inserted as text only: what a model writes is never read as HTML.

const ENDINGS = {
  stop: "ended by itself", either: "ended by itself or at a stop text", length: "cut off at max tokens", you: "stopped by you",
};
const REMEDIES = { retry: "Try again", settings: "Open settings", shorten: "Leave out the oldest turns" };

const NEAR = 32; // pixels from the bottom that still are the bottom

export const $ = (id) => document.getElementById(id);

export function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

// A turn's list item, with an empty place for each answer.
export function turnElement(turn) {
  const question = element("p", { className: "question" }, element("span", { className: "unseen" }, "You: "), turn.question);
  return element("li", { className: "turn" }, question, element("div", { className: "answers" }));
}

export function answerElement() {
  return element("article", { className: "answer" }, element("h2"), element("div", { className: "said" }));
}

// Shows an answer in its element; `last`: it can be asked for again. `act(action, button)` is called for "copy" and the
// remedies.
export function showAnswer(place, answer, last, act) {
  const [name, said] = place.children;
  const coming = answer.ended === null && !answer.error;
  name.textContent = answer.model;
  place.setAttribute("aria-label", `Answer of ${answer.model}`);
  place.setAttribute("aria-busy", String(coming));
  showText(said, answer.text);
  while (said.nextSibling) said.nextSibling.remove();
  if (coming) return;
  if (answer.error) {
    const remedy = REMEDIES[last && answer.error.remedy];
    const button = remedy && element("button", { type: "button", onclick: () => act(answer.error.remedy) }, remedy);
    place.append(element("p", { className: "error" }, element("span", {}, answer.error.line), ...(button ? [button] : [])));
  }
  const buttons = [];
  if (answer.text) buttons.push(labelled("Copy", `Copy the answer of ${answer.model}`, (event) => act("copy", event.target)));
  if (last && !answer.error) buttons.push(labelled("Regenerate", `Regenerate the answer of ${answer.model}`, () => act("retry")));
  if (last && answer.full && answer.along) buttons.push(element("button", { type: "button", onclick: () => act("shorten") }, REMEDIES.shorten));
  const known = stats(answer);
  if (!known && !buttons.length) return;
  place.append(element("footer", {}, element("span", { className: "stats" }, known), element("span", { className: "buttons" }, ...buttons)));
}

// "31 tokens read · 42 written · 61.3 a second · ended by itself"
function stats({ tokens, rate, leftOut, ended, error, text, full }) {
  const parts = [];
  if (tokens?.read !== undefined) parts.push(`${count(tokens.read)} tokens read`, `${count(tokens.written)} written`);
  else if (tokens?.pieces) parts.push(`about ${count(tokens.pieces)} token${tokens.pieces > 1 ? "s" : ""} written`); // the server sent no count
  if (rate) parts.push(`${rate < 10 ? rate.toFixed(1) : count(Math.round(rate))} a second`);
  if (leftOut) parts.push(`without the oldest ${leftOut === 1 ? "turn" : `${leftOut} turns`}`);
  if (full) parts.push("cut off, as the context is full");
  else if (ended && !error) parts.push(`${ENDINGS[ended] ?? ended}${!text && ended !== "you" ? ", without a word" : ""}`);
  return parts.join(" · ");
}

const count = (number) => number.toLocaleString("en");

function labelled(text, label, onclick) {
  const button = element("button", { type: "button", onclick }, text);
  button.setAttribute("aria-label", label);
  return button;
}

// Shows a text that may have grown: what stands already stays, and so does what is selected in it.
export function showText(place, text) {
  const parts = segments(text);
  while (place.childNodes.length > parts.length) place.lastChild.remove();
  parts.forEach(({ code, body }, number) => {
    let child = place.childNodes[number];
    if (!child || (child.nodeName === "PRE") !== code) {
      const made = code ? element("pre", { tabIndex: 0, role: "group", ariaLabel: "Code" }, document.createTextNode("")) : document.createTextNode("");
      if (child) child.replaceWith(made);
      else place.append(made);
      child = made;
    }
    const node = code ? child.firstChild : child;
    if (body.startsWith(node.data)) node.appendData(body.slice(node.data.length));
    else node.data = body;
  });
}

// Cuts at lines that begin with ```: [{code, body}]. A fence that is not closed yet is code up to the end.
export function segments(text) {
  const found = [];
  let lines = [];
  let code = false;
  const cut = () => {
    if (lines.length && (code || lines.join("").trim())) found.push({ code, body: lines.join("\n") });
    lines = [];
  };
  for (const line of text.split("\n")) {
    if (code ? /^```\s*$/.test(line) : line.startsWith("```")) {
      cut();
      code = !code;
    } else {
      lines.push(line);
    }
  }
  cut();
  return found;
}

// Changes what is shown; who was at the bottom stays there, who was reading above is left alone.
export function atBottom(change) {
  const page = document.documentElement;
  const was = page.scrollHeight - window.innerHeight - window.scrollY < NEAR;
  change();
  if (was) window.scrollTo(0, page.scrollHeight);
}

// A line above the message, with a button for what can be done; "" takes it away. `bad`: something went wrong.
export function notify(line, label, action, bad = false) {
  const onclick = () => {
    notify("");
    $("question").focus(); // the button is gone
    action();
  };
  $("notice").replaceChildren(...(line ? [element("span", {}, line), element("button", { type: "button", onclick }, label)] : []));
  $("notice").classList.toggle("bad", bad);
  if (line) say(line);
}

// For screen readers.
export function say(line) {
  $("said").textContent = line;
}

export async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Browsers have no clipboard where a server is reached by plain http from another machine.
    const place = element("textarea", { className: "unseen", value: text, ariaHidden: "true" });
    document.body.append(place);
    place.select();
    document.execCommand("copy");
    place.remove();
    button.focus();
  }
  button.textContent = "Copied";
  say("Copied");
  setTimeout(() => (button.textContent = "Copy"), 1500);
}
