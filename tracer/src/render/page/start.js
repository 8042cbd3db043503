// The start of a session in its parts: each bar begins where the one above it ends.

class Start {
  constructor(section, sum, rows) {
    Object.assign(this, { section, sum, rows });
  }

  show(session) {
    const parts = session.start;
    this.section.hidden = parts.length === 0;
    if (parts.length === 0) return;
    const wall = parts.reduce((sum, part) => sum + part.lasted_ns, 0);
    this.sum.textContent = `${duration(wall / 1e3)} from ${parts[0].from} to ${parts[parts.length - 1].to}. A pale part contains rungs that were not seen, in unknown shares.`;
    let passed = 0;
    // A command runs once it is executed.
    const shown = parts.filter((part) => part.to !== "running" || part.lasted_ns > 0);
    this.rows.replaceChildren(...shown.map((part) => {
      const row = this.row(part, passed / wall, part.lasted_ns / wall);
      passed += part.lasted_ns;
      return row;
    }));
  }

  row(part, from, share) {
    const [x, width] = wallOf(from, share);
    const bar = drawn("svg", { class: "bar", viewBox: "0 0 1000 10", preserveAspectRatio: "none", "aria-hidden": "true" },
      drawn("rect", { x, width, y: 0, height: 10, class: part.unseen.length ? "unseen" : "seen" }));
    const result = { failed: "failed", waiting: "begun, no result" }[part.state];
    const unseen = part.unseen.length ? `not seen: ${part.unseen.join(", ")}` : null;
    return el("li", { class: part.state },
      el("span", { class: "rung", text: part.to }), bar, el("span", { class: "took", text: duration(part.lasted_ns / 1e3) }),
      el("span", { class: "note", text: [result, unseen].filter(Boolean).join("; ") }));
  }
}

/** Place of a bar in thousandths. A bar is wide enough to be seen. */
function wallOf(from, share) {
  const width = Math.max((Number.isFinite(share) ? share : 0) * 1000, 4);
  return [Math.min((Number.isFinite(from) ? from : 0) * 1000, 1000 - width), width];
}
