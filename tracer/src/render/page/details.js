// A few words beside the picture: the newest step while the film plays, the whole session at its end.

/** Least free height in a picture that holds text, in units of the picture. */
const ROOM = 200;

class Details {
  constructor(holder, more) {
    this.holder = holder;
    this.more = more;
  }

  show(session) {
    this.session = session;
    this.shown = null;
  }

  /** Moves into free room of the picture: below all boxes but those of the last column. Without room, it stays beside the picture. */
  move(shape) {
    const last = Math.max(...shape.places.map((place) => place.area.x));
    const before = [...shape.places.map((place) => place.area), ...shape.beyond].filter((area) => area.x < last);
    const top = Math.max(0, ...before.map((area) => area.y + area.h)) + 24;
    const free = before.length > 0 && shape.h - top >= ROOM;
    this.holder.classList.toggle("inside", free);
    const share = (part, whole) => `${((100 * part) / whole).toFixed(2)}%`;
    Object.assign(this.holder.style, free
      ? { left: share(12, shape.w), top: share(top, shape.h), width: share(last - 60, shape.w), maxHeight: share(shape.h - top - 12, shape.h) }
      : { left: "", top: "", width: "", maxHeight: "" });
  }

  at(at, clock, over) {
    const withStart = (parts, sort) => parts.map((part, index) => ({ part, id: `${sort}-${index}`, at: startOf(part, clock) }));
    const parts = [...withStart(this.session.links, "link"), ...withStart(this.session.hops, "hop")];
    const present = parts.filter(({ part }) => stateAt(part, clock, at) === "here");
    const newest = present.reduce((last, one) => (last && last.at > one.at ? last : one), null);
    if (over || !newest) this.render(null, this.session.say);
    else this.render(newest.id, newest.part.say);
  }

  /** Shows a step that the user selected. */
  pick(id) {
    const [sort, index] = id.split("-");
    this.render(id, this.session[`${sort}s`][Number(index)].say);
  }

  render(id, say) {
    if (this.shown === (id ?? "all")) return;
    this.shown = id ?? "all";
    if (!say) return this.holder.replaceChildren();
    const parts = [el("h4", { text: say.title }), ...[say.what, say.why].map(sentence).filter(Boolean).map((text) => el("p", {}, ...prose(text)))];
    say.manual.slice(0, 2).forEach(([command]) => parts.push(el("p", { class: "by-hand" }, "By hand: ", el("code", { text: command }))));
    const more = el("button", { type: "button", text: id ? "More of this step" : "Step by step" });
    more.addEventListener("click", () => this.more(id ?? "steps-title"));
    this.holder.replaceChildren(...parts, more);
  }
}
