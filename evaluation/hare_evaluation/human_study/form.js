"use strict";
// The code of a sheet is in the address: #P01-0a1b2c3d. Every text goes in as text, never as markup.
const $ = (id) => document.getElementById(id);
let sheet = null;
let shown = 0;

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function complete(answer) {
  const scales = Object.keys(sheet.asked.scales);
  return "choice" in answer && ["a", "b"].every((side) => scales.every((scale) => `${side}.${scale}` in answer));
}

function scale(field, question, values) {
  const buttons = values.map(([value, label]) => {
    const input = element("input", { type: "radio", name: field, value: String(value) });
    input.checked = sheet.answers[shown][field] === value;
    input.addEventListener("change", () => save(field, value));
    return element("label", {}, input, ` ${label}`);
  });
  return element("fieldset", {}, element("legend", { textContent: question }), element("div", { className: "scale" }, ...buttons));
}

function draw() {
  const round = sheet.rounds[shown];
  const done = sheet.answers.filter(complete).length;
  $("progress").textContent = `Round ${shown + 1} of ${sheet.rounds.length}, ${done} answered`;
  $("person").querySelector("ul").replaceChildren(...sheet.person.map((line) => element("li", { textContent: line })));
  $("need").querySelector("blockquote").textContent = round.query;
  const ratings = sheet.asked.ratings.map((value) => [value, String(value)]);
  const texts = ["a", "b"].map((side) =>
    element(
      "section",
      { className: "text" },
      element("h2", { textContent: `Text ${side.toUpperCase()}` }),
      element("pre", { textContent: round[side], tabIndex: 0 }),
      ...Object.entries(sheet.asked.scales).map(([name, words]) => scale(`${side}.${name}`, `${words} (1 not at all, 5 fully)`, ratings)),
    ),
  );
  const choice = scale("choice", sheet.asked.choice, [["a", "Text A"], ["b", "Text B"]]);
  choice.className = "choice";
  $("round").replaceChildren(element("div", { className: "pair" }, ...texts), choice);
  $("back").disabled = shown === 0;
  $("next").textContent = shown === sheet.rounds.length - 1 ? "Finish" : "Next";
}

function say(words, wrong = false) {
  $("saved").textContent = words;
  wrong ? ($("saved").dataset.wrong = "") : delete $("saved").dataset.wrong;
}

async function save(field, value) {
  const round = shown;
  try {
    const answer = await fetch(`sheet/${sheet.code}`, { method: "PUT", body: JSON.stringify({ round, field, value }) });
    const told = await answer.json();
    if (!answer.ok) throw new Error(told.detail);
    sheet.answers[round][field] = value;
    const done = sheet.answers.filter(complete).length;
    $("progress").textContent = `Round ${shown + 1} of ${sheet.rounds.length}, ${done} answered`;
    say("Saved.");
  } catch (error) {
    say(`Not saved: ${error.message} Please give this answer again.`, true);
  }
}

function go(step) {
  if (step > 0 && !complete(sheet.answers[shown])) {
    say("Some questions of this round are still open.", true);
    return;
  }
  const last = shown + step === sheet.rounds.length;
  if (last) {
    const open = sheet.answers.findIndex((answer) => !complete(answer));
    if (open < 0) {
      say("That was all. Thank you. You may close this page.");
      return;
    }
    shown = open;
  } else {
    shown = Math.max(0, shown + step);
  }
  say("");
  draw();
  window.scrollTo(0, 0);
}

async function start() {
  try {
    const answer = await fetch(`sheet/${encodeURIComponent(location.hash.slice(1))}`);
    const told = await answer.json();
    if (!answer.ok) throw new Error(told.detail);
    sheet = told;
    const open = sheet.answers.findIndex((one) => !complete(one));
    shown = open < 0 ? sheet.rounds.length - 1 : open;
    draw();
  } catch (error) {
    say(error.message, true);
  }
}

$("back").addEventListener("click", () => go(-1));
$("next").addEventListener("click", () => go(1));
window.addEventListener("hashchange", start);
start();
