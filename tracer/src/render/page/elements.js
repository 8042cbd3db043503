// Creates elements. Text is inserted as text: nothing here parses markup.

/** Sets attributes of an element and appends its children; `text` becomes its text content. */
function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "text") element.textContent = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

function el(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

function drawn(name, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

/** Prose as children of an element: text between backticks becomes code. */
function prose(text) {
  const words = text.split("`");
  // A single backtick is text.
  return words.length % 2 ? words.map((word, index) => (index % 2 ? el("code", { text: word }) : word)) : [text];
}

function byId(id) {
  return document.getElementById(id);
}

/** Cuts text to `room` characters. A path keeps part of its end, which identifies it as much as its start. */
function cut(text, room) {
  const letters = [...text];
  if (letters.length <= room) return text;
  const end = text.startsWith("/") ? Math.floor(room / 3) : 0;
  return [...letters.slice(0, Math.max(room - 1 - end, 0)), "…", ...letters.slice(letters.length - end)].join("");
}

/** Formats microseconds for people. */
function duration(micros) {
  const sign = micros < 0 ? "−" : "";
  const size = Math.abs(micros);
  if (size < 1e3) return `${sign}${Math.round(size)} µs`;
  if (size < 1e6) return `${sign}${(size / 1e3).toFixed(size < 1e4 ? 2 : 1)} ms`;
  if (size < 60e6) return `${sign}${(size / 1e6).toFixed(2)} s`;
  const seconds = Math.floor(size / 1e6);
  if (seconds < 3600) return `${sign}${Math.floor(seconds / 60)} min ${seconds % 60} s`;
  if (seconds < 86400) return `${sign}${Math.floor(seconds / 3600)} h ${Math.floor(seconds / 60) % 60} min`;
  return `${sign}${Math.floor(seconds / 86400)} d ${Math.floor(seconds / 3600) % 24} h`;
}

function counted(count, what) {
  return `${count.toLocaleString("en")} ${what}${count === 1 ? "" : "s"}`;
}
