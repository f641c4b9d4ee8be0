// The settings: kept as they are typed, read at each request. The models, the theme and the key belong to them.
import { Trouble, listModels } from "/page/api.js";
import * as store from "/page/store.js";
import { $, element, notify } from "/page/view.js";

const NUMBERS = ["temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_tokens", "seed"];
const FIELDS = [...NUMBERS, "context", "stop"];

let models = []; // of the server
let kept = store.loadSettings(); // {model, second, compare, theme} and the fields, as strings

function change(changed) {
  kept = { ...kept, ...changed };
  store.keepSettings(kept);
}

export const isComparing = () => Boolean(kept.compare);
export const context = () => kept.context ?? "";

// The model of each column.
export const columns = () => (kept.compare ? [$("model").value, $("second").value] : [$("model").value]);

// Tokens that a model's context holds.
export const holds = (id) => models.find((model) => model.id === id)?.holds ?? Infinity;

// What the API takes, of the fields that are not empty.
export function sampling() {
  const given = NUMBERS.filter((name) => kept[name]).map((name) => [name, Number(kept[name])]);
  const stop = (kept.stop ?? "").split("\n").filter(Boolean).map((line) => line.replaceAll("\\n", "\n"));
  return { ...Object.fromEntries(given), ...(stop.length ? { stop } : {}) };
}

// Whether a request can be made; shows why not.
export function areReady() {
  if ($("settings").querySelector("input:invalid")) {
    open();
    $("key").form.reportValidity();
    return false;
  }
  if (!$("model").value) loadModels();
  return $("model").value !== "";
}

export function open(field) {
  if (!$("settings").open) $("settings").showModal();
  if (field) $(field).focus();
}

export function forget() {
  store.forget();
  kept = store.loadSettings();
  show();
  loadModels();
}

async function loadModels() {
  try {
    models = await listModels(store.loadKey());
    if (!models.length) throw new Trouble("The server has no models. Start it with a checkpoint.", "retry");
    const ids = models.map(({ id }) => id);
    for (const name of ["model", "second"]) {
      $(name).replaceChildren(...ids.map((id) => element("option", { value: id }, id)));
      const free = ids.find((id) => id !== $("model").value) ?? ids[0];
      $(name).value = ids.includes(kept[name]) ? kept[name] : name === "model" ? ids[0] : free;
    }
    notify("");
  } catch (error) {
    if (error.remedy === "settings") notify(error.message, "Open settings", () => open("key"), true);
    else notify(error.message, "Try again", loadModels, true);
  }
  showModels();
}

function show() {
  for (const name of FIELDS) $(name).value = kept[name] ?? "";
  $("key").value = store.loadKey();
  showTheme();
  showModels();
}

function showModels() {
  $("second-label").hidden = !kept.compare;
  $("compare").setAttribute("aria-pressed", String(isComparing()));
  $("greeting").textContent = $("model").value ? `Ask ${columns().join(" and ")} something.` : "Ask something.";
}

function showTheme() {
  const dark = kept.theme ? kept.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = kept.theme ?? "";
  $("dark").setAttribute("aria-checked", String(dark));
}

// `onCompare()` is called when a column comes or goes.
export function start(onCompare) {
  for (const name of FIELDS) $(name).addEventListener("input", () => change({ [name]: $(name).value }));
  $("key").addEventListener("change", () => {
    store.keepKey($("key").value.trim());
    loadModels();
  });
  for (const name of ["model", "second"]) {
    $(name).addEventListener("change", () => {
      change({ [name]: $(name).value });
      showModels();
    });
  }
  $("compare").addEventListener("click", () => {
    change({ compare: !kept.compare });
    const free = [...$("second").options].find((option) => option.value !== $("model").value);
    if (!kept.second && free) $("second").value = free.value;
    showModels();
    onCompare();
  });
  $("dark").addEventListener("click", () => {
    change({ theme: $("dark").getAttribute("aria-checked") === "true" ? "light" : "dark" });
    showTheme();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", showTheme);
  $("open").addEventListener("click", () => open());
  $("reset").addEventListener("click", () => {
    change(Object.fromEntries(FIELDS.map((name) => [name, store.DEFAULTS[name] ?? ""])));
    show();
  });
  show();
  loadModels();
}
