// The server's API: the list of models, and one answer as it comes. What goes wrong becomes a Trouble, one line long.

// What a person is told, and what they can do about it at once: "retry", "settings", "shorten" or nothing.
export class Trouble extends Error {
  constructor(line, remedy = "") {
    super(line);
    this.remedy = remedy;
  }
}

const LOST = "The connection was lost in the middle of the answer. Ask again, or check that the server still runs.";
const AWAY = "The server does not answer. Check that it runs and that you are online, then try again.";
const LONGEST = 240; // characters of the server's own words

// The models that the server offers: {id, holds}, holds: tokens of its context, Infinity where the server does not say.
export async function listModels(key) {
  const response = await request("/v1/models", { headers: authorization(key) });
  const list = await response.json().catch(() => null);
  if (!Array.isArray(list?.data)) throw new Trouble("The server's list of models cannot be read. Is this the right server?");
  return list.data.map((model) => ({ id: String(model.id), holds: model.max_model_len ?? Infinity }));
}

// Yields {text}, {ended: "stop" | "length" | ...} and {tokens: {read, written}} as they come. Throws a Trouble, or an
// AbortError once `signal` fires.
export async function* answer(body, key, signal) {
  const response = await request("/v1/chat/completions", {
    method: "POST",
    headers: { "Content-Type": "application/json", ...authorization(key) },
    body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
    signal,
  });
  let whole = false;
  for await (const data of events(response.body, signal)) {
    if (data === "[DONE]") break;
    const piece = parse(data);
    if (piece.error) throw new Trouble(sentence(piece.error.message) || "The server failed in the middle of the answer. Ask again.", "retry");
    const choice = piece.choices?.[0];
    if (choice?.delta?.content) yield { text: choice.delta.content };
    if (choice?.finish_reason) {
      whole = true;
      yield { ended: choice.finish_reason };
    }
    if (piece.usage) yield { tokens: { read: piece.usage.prompt_tokens, written: piece.usage.completion_tokens } };
  }
  if (!whole) throw new Trouble(LOST, "retry");
}

// The data of each server-sent event. Lines end in \n or \r\n, an event at an empty line; comments keep a connection open.
async function* events(stream, signal) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let data = [];
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines.map((each) => each.replace(/\r$/, ""))) {
        if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
        if (line === "" && data.length) {
          yield data.join("\n");
          data = [];
        }
      }
    }
  } catch (error) {
    throw signal.aborted ? error : new Trouble(LOST, "retry");
  } finally {
    reader.cancel().catch(() => {});
  }
}

function parse(data) {
  try {
    return JSON.parse(data);
  } catch {
    throw new Trouble("The server sent something that is no answer. Is there another server in between?", "retry");
  }
}

const authorization = (key) => (key ? { Authorization: `Bearer ${key}` } : {});

async function request(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    throw options.signal?.aborted ? error : new Trouble(AWAY, "retry");
  }
  if (response.ok) return response;
  const said = (await response.json().catch(() => null))?.error ?? {};
  throw refusal(response.status, said, response.headers.get("Retry-After"));
}

function refusal(status, said, wait) {
  const words = sentence(said.message);
  if (status === 401) {
    return new Trouble("The server asks for an API key, or does not accept this one. Enter it in Settings.", "settings");
  }
  if (said.code === "context_length_exceeded" || status === 413) {
    const bare = sentence(String(said.message ?? "").replace(/^messages: /, ""));
    return new Trouble(bare || "This conversation no longer fits into the model's context.", "shorten");
  }
  if (status === 400 || said.code === "request_too_large") {
    return new Trouble(`${words || "The server refused the request."} Look at Settings.`, "settings");
  }
  if (status === 429) return new Trouble(`${words || "Too many requests."} Wait ${time(wait)}, then try again.`, "retry");
  if (status === 404) {
    return new Trouble(`${words || "The server has no such model."} Choose another model, then try again.`, "retry");
  }
  return new Trouble(`${words || `The server failed (${status}).`} Try again in a moment.`, "retry");
}

// Seconds of a Retry-After as a person says them.
function time(wait) {
  if (!/^\d+$/.test(wait ?? "")) return "a moment";
  if (wait < 120) return `${Number(wait)} seconds`;
  return wait < 7200 ? `${Math.ceil(wait / 60)} minutes` : `${Math.ceil(wait / 3600)} hours`;
}

// The server's words as one sentence, cut if they are long; "" for none.
function sentence(message) {
  const line = String(message ?? "").replace(/\s+/g, " ").trim();
  if (!line) return "";
  const cut = line.length > LONGEST ? `${line.slice(0, LONGEST)}…` : line;
  return cut[0].toUpperCase() + cut.slice(1) + (/[.!?…]$/.test(cut) ? "" : ".");
}
