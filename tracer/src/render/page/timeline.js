// The film: a moment of the session, moved by hand or played.

const STEPS = 1000;
/** Initial length of the film, and longest wait while waits are shortened, in milliseconds. */
const WHOLE = 8000;
const PAUSE = 1200;
/** Slowest and fastest speed, as powers of two of the real one. */
const SPEEDS = [-24, 24];
const ICONS = {
  start: "M5 4v12h2V4zM17 4 8 10l9 6z", back: "M15 4 6 10l9 6z", play: "M6 4l10 6-10 6z", pause: "M6 4h3v12H6zM11 4h3v12h-3z",
  on: "M5 4l9 6-9 6z", end: "M13 4v12h2V4zM3 4l9 6-9 6z",
};

class Timeline {
  constructor(holder, moved) {
    this.moved = moved;
    this.clock = "happened";
    this.buttons = {};
    const button = (name, label, act) => {
      this.buttons[name] = el("button", { type: "button", "aria-label": label, title: label }, this.icon(name));
      this.buttons[name].addEventListener("click", act);
      return this.buttons[name];
    };
    this.speed = el("output", { id: "speed" });
    this.shorten = el("input", { type: "checkbox", id: "shorten", checked: true });
    this.clocks = el("select", { id: "clock" }, el("option", { value: "happened", text: "as it happened" }), el("option", { value: "known", text: "as it became known" }));
    this.clocks.addEventListener("change", () => {
      this.clock = this.clocks.value;
      this.layOut();
      this.go(this.now);
    });
    this.range = el("input", { type: "range", id: "moment", min: "0", max: String(STEPS), step: "1", value: String(STEPS), "aria-label": "Moment" });
    this.range.addEventListener("input", () => {
      this.stop();
      this.go(this.time(Number(this.range.value)));
    });
    this.marks = drawn("svg", { class: "marks", viewBox: `0 0 ${STEPS} 14`, preserveAspectRatio: "none", "aria-hidden": "true" });
    this.reads = el("output", { for: "moment", class: "reads" });
    this.says = el("p", { class: "says", role: "status" });
    const by = (steps, text) => {
      const one = el("button", { type: "button", text });
      one.addEventListener("click", () => this.pace(this.power + steps));
      return one;
    };
    holder.append(
      el("div", { class: "track" }, this.marks, this.range),
      el("div", { class: "line" },
        el("div", { class: "buttons", role: "group", "aria-label": "Film" },
          button("start", "To the start", () => this.jump(-Infinity)), button("back", "One event back", () => this.step(-1)),
          button("play", "Play", () => (this.frame ? this.stop() : this.play())),
          button("on", "One event on", () => this.step(1)), button("end", "To the end", () => this.jump(Infinity))),
        this.reads, this.says),
      el("div", { class: "line options" },
        el("span", { class: "option" }, "Speed", by(-1, "slower"), this.speed, by(1, "faster")),
        el("span", { class: "option" }, this.shorten, el("label", { for: "shorten", text: "shorten waits" })),
        el("span", { class: "option" }, el("label", { for: "clock", text: "Show it" }), this.clocks)));
  }

  icon(name) {
    return drawn("svg", { viewBox: "0 0 20 20", width: 18, height: 18, "aria-hidden": "true" }, drawn("path", { d: ICONS[name] }));
  }

  show(session) {
    this.stop();
    this.session = session;
    this.layOut();
    const whole = Math.max(this.last - this.first, 1);
    this.pace(Math.round(Math.log2(whole / 1e3 / WHOLE)));
    this.go(this.last);
  }

  /** Sets the speed: a power of two of the real one. */
  pace(power) {
    this.power = Math.min(Math.max(power, SPEEDS[0]), SPEEDS[1]);
    const factor = (2 ** Math.abs(this.power)).toLocaleString("en");
    this.speed.textContent = this.power ? `${factor} × ${this.power < 0 ? "slower" : "faster"}` : "as it was";
  }

  /** Lays out the axis. The width of a wait grows with its logarithm, so that close events remain distinguishable. */
  layOut() {
    this.events = events(this.session, this.clock);
    const times = [...new Set(this.events.map((event) => event.at))];
    if (this.session.open) times.push(this.session.until);
    if (times.length === 0) times.push(this.session.told);
    this.times = [...new Set(times)].sort((one, other) => one - other);
    [this.first, this.last] = [this.times[0], this.times[this.times.length - 1]];
    let room = 0;
    const places = this.times.map((time, index) => (room += index ? Math.log2(2 + (time - this.times[index - 1]) / 100) : 0));
    this.places = places.map((place) => (room ? (place / room) * STEPS : 0));
    const tones = new Map(this.events.map((event) => [event.at, event.tone]));
    this.marks.replaceChildren(...this.times.map((time, index) =>
      drawn("rect", { x: Math.min(this.places[index], STEPS - 2), y: 0, width: 2, height: 14, class: tones.get(time) ?? "plain" })));
  }

  /** Converts between positions on the axis and moments. */
  time(place) {
    return this.between(place, this.places, this.times);
  }

  place(time) {
    return this.between(time, this.times, this.places);
  }

  between(value, from, to) {
    const after = from.findIndex((one) => one >= value);
    if (after < 0) return to[to.length - 1];
    if (after === 0) return to[0];
    const part = (value - from[after - 1]) / (from[after] - from[after - 1]);
    return to[after - 1] + part * (to[after] - to[after - 1]);
  }

  go(time) {
    this.now = Math.min(Math.max(time, this.first), this.last);
    this.range.value = String(Math.round(this.place(this.now)));
    const past = this.events.filter((event) => event.at <= this.now);
    const { hops, links } = this.session;
    const here = (parts) => parts.filter((part) => stateAt(part, this.clock, this.now) === "here").length;
    const all = (parts) => parts.filter((part) => part.until === null).length;
    const after = duration(this.now - this.first);
    this.reads.textContent = `+${after}`;
    this.reads.title = moment(this.now);
    const newest = past.filter((event) => event.at === past[past.length - 1].at).map((event) => event.text);
    const text = newest.slice(0, 2).join("; ") + (newest.length > 2 ? `; and ${newest.length - 2} more` : "");
    this.says.replaceChildren(el("b", { text: `${here(hops)} of ${counted(all(hops), "hop")}, ${here(links)} of ${counted(all(links), "link")}` }), ` — ${text}`);
    this.range.setAttribute("aria-valuetext", `${after}: ${text}`);
    this.moved(this.now, this.clock, this.first, this.last);
  }

  jump(to) {
    this.stop();
    this.go(to);
  }

  step(by) {
    this.stop();
    const later = this.times.find((time) => time > this.now);
    const earlier = this.times.filter((time) => time < this.now).pop();
    this.go((by > 0 ? later : earlier) ?? this.now);
  }

  play() {
    if (this.now >= this.last) this.go(this.first);
    let before = performance.now();
    this.playing(true);
    const frame = (now) => {
      const passed = now - before;
      before = now;
      const next = this.times.findIndex((time) => time > this.now);
      if (next < 0) return this.stop();
      const wait = this.times[next] - (this.times[next - 1] ?? this.first);
      const speed = 2 ** this.power * 1e3;
      const pace = this.shorten.checked ? Math.max(speed, wait / PAUSE) : speed;
      // Stop at each event for a frame, so that none is skipped.
      this.go(Math.min(this.now + passed * pace, this.times[next]));
      this.frame = requestAnimationFrame(frame);
    };
    this.frame = requestAnimationFrame(frame);
  }

  stop() {
    cancelAnimationFrame(this.frame);
    this.frame = null;
    this.playing(false);
  }

  playing(yes) {
    const { play } = this.buttons;
    play.replaceChildren(this.icon(yes ? "pause" : "play"));
    play.setAttribute("aria-label", yes ? "Pause" : "Play");
    play.title = yes ? "Pause" : "Play";
    this.says.setAttribute("aria-live", yes ? "off" : "polite");
  }
}
