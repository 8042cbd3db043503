// The list of sessions. Only visible rows are in the page.

const ROW = 78;
const SPARE = 6;

function searchable(session) {
  const words = [session.id, session.kind, session.into, session.command, session.who, session.user, session.outcome, session.health];
  for (const hop of session.hops) words.push(hop.role, hop.what);
  for (const link of session.links) words.push(link.what);
  return words.filter(Boolean).join("\n").toLowerCase();
}

const SEVERITY = { bad: 0, doubt: 1, plain: 2, good: 3 };
const ORDERS = {
  came: (one, other) => one.told - other.told,
  new: (one, other) => other.told - one.told,
  long: (one, other) => other.until - other.opened - (one.until - one.opened),
  into: (one, other) => (one.into ?? "~").localeCompare(other.into ?? "~"),
  bad: (one, other) => SEVERITY[one.tone] - SEVERITY[other.tone],
};

class SessionList {
  constructor(sessions, chosen) {
    this.all = sessions.map((session, index) => ({ session, index, text: searchable(session) }));
    this.chosen = chosen;
    this.current = null;
    this.box = byId("list");
    this.space = el("div", { class: "space", role: "presentation" });
    this.rows = el("div", { class: "rows", role: "presentation" });
    this.box.append(this.space, this.rows);
    this.box.addEventListener("scroll", () => this.paint());
    this.box.addEventListener("keydown", (event) => this.key(event));
    this.rows.addEventListener("click", (event) => {
      const row = event.target.closest("[role=option]");
      if (row) this.choose(Number(row.dataset.place));
    });
    byId("filter").addEventListener("input", () => this.narrow());
    byId("filter").addEventListener("keydown", (event) => {
      if (event.key === "ArrowDown" && this.shown.length) {
        event.preventDefault();
        this.box.focus();
        this.choose(Math.max(this.place(), 0));
      }
    });
    byId("sort").addEventListener("change", () => this.narrow());
    new ResizeObserver(() => this.paint()).observe(this.box);
    this.narrow();
  }

  narrow() {
    const words = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    const order = ORDERS[byId("sort").value];
    this.shown = this.all.filter((one) => words.every((word) => one.text.includes(word)));
    this.shown.sort((one, other) => order(one.session, other.session) || one.index - other.index);
    this.space.style.height = `${this.shown.length * ROW}px`;
    const of = this.shown.length === this.all.length ? "" : ` of ${this.all.length.toLocaleString("en")}`;
    byId("count").textContent = `${this.shown.length.toLocaleString("en")}${of} ${this.all.length === 1 ? "session" : "sessions"}`;
    this.box.scrollTop = 0;
    this.reveal();
  }

  /** Position of the current session in the filtered list; -1 if it is filtered out. */
  place() {
    return this.shown.findIndex((one) => one.index === this.current);
  }

  key(event) {
    const page = Math.max(Math.floor(this.box.clientHeight / ROW) - 1, 1);
    const here = this.place();
    const last = this.shown.length - 1;
    const to = { ArrowDown: here + 1, ArrowUp: here - 1, PageDown: here + page, PageUp: here - page, Home: 0, End: last }[event.key];
    if (to === undefined || last < 0) return;
    event.preventDefault();
    this.choose(Math.min(Math.max(to, 0), last));
  }

  choose(place) {
    this.current = this.shown[place].index;
    this.reveal();
    this.chosen(this.shown[place].session);
  }

  /** Selects the session with this id, or else the first one. */
  pick(id) {
    const found = this.all.find((one) => one.session.id === id) ?? this.shown[0];
    if (!found) return;
    this.current = found.index;
    this.reveal();
    this.chosen(found.session);
  }

  reveal() {
    const place = this.place();
    if (place >= 0) {
      const top = place * ROW;
      const { scrollTop, clientHeight } = this.box;
      if (top < scrollTop) this.box.scrollTop = top;
      else if (top + ROW > scrollTop + clientHeight) this.box.scrollTop = top + ROW - clientHeight;
    }
    this.paint();
  }

  paint() {
    const first = Math.max(Math.floor(this.box.scrollTop / ROW) - SPARE, 0);
    const count = Math.ceil(this.box.clientHeight / ROW) + 2 * SPARE;
    const slice = this.shown.slice(first, first + count);
    this.rows.style.transform = `translateY(${first * ROW}px)`;
    this.rows.replaceChildren(...slice.map((one, index) => this.row(one, first + index)));
    const place = this.place();
    const here = place >= first && place < first + slice.length;
    if (here) this.box.setAttribute("aria-activedescendant", `row-${this.current}`);
    else this.box.removeAttribute("aria-activedescendant");
  }

  row({ session, index }, place) {
    const title = session.into ?? session.id;
    const time = moment(session.opened).slice(11, 19);
    const attributes = {
      role: "option", id: `row-${index}`, class: "row", "data-place": place, "data-tone": session.open ? "open" : session.tone,
      "aria-selected": String(index === this.current), "aria-setsize": this.shown.length, "aria-posinset": place + 1,
    };
    return el("div", attributes,
      el("span", { class: "row-title", text: cut(title, 80) }),
      el("span", { class: "row-time", text: time }),
      el("span", { class: "row-command", text: session.command ? cut(`$ ${session.command}`, 120) : "" }),
      el("span", { class: "row-note", text: `${session.kind} · ${session.outcome}` }));
  }
}
