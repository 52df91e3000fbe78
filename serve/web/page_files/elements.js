/** Elements, made without HTML: whatever comes from the service enters the document as text. */

export const $ = (id) => document.getElementById(id);

/** An element; properties are set, other names become attributes, strings among the children become text. */
export function el(name, properties = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(properties))
    key in node ? (node[key] = value) : node.setAttribute(key, value);
  node.append(...children);
  return node;
}

export const button = (text, onclick, more = {}) =>
  el("button", { type: "button", className: "small", onclick, ...more }, text);

export const unseen = (text) => el("span", { className: "unseen" }, text);

/** A number of things in words: 1 entity, 2 entities, 1,200 sentences. */
export const count = (n, one, many = `${one}s`) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;

/** A line of which a part is filled; both numbers are shares of its length. */
export function bar(from, share) {
  const node = el("span", { className: "bar", ariaHidden: "true" });
  node.style.setProperty("--from", from);
  node.style.setProperty("--share", share);
  return node;
}

/** Says in a few words what is under way. */
export const say = (text) => ($("status").textContent = text);

/** Tells what was done, with buttons such as Undo, at the lower edge of the window until something else is told. */
export function tell(text, ...buttons) {
  const close = button("×", () => $("news").replaceChildren(), { ariaLabel: "Close" });
  $("news").replaceChildren(el("div", { className: "toast row" }, el("span", {}, text), ...buttons, close));
}

/** Saves what a file is to hold; content is a string or a Blob. */
export function download(name, content) {
  const href = URL.createObjectURL(new Blob([content]));
  el("a", { href, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(href), 10_000); // ms: the browser has begun to save it by then
}

/** Shows items a page at a time: `list` makes a page's node; below it is the way to the others, if there are any. */
export function paged(box, items, size, list) {
  function show(from) {
    const end = Math.min(from + size, items.length);
    const previous = button("Previous", () => turn(from - size), { disabled: from === 0 });
    const next = button("Next", () => turn(from + size), { disabled: end === items.length });
    const where = el("span", { className: "quiet" }, `${from + 1} to ${end} of ${items.length.toLocaleString("en")}`);
    const pager = el("div", { className: "row pager" }, previous, next, where);
    box.replaceChildren(list(items.slice(from, end)), ...(items.length > size ? [pager] : []));
  }
  function turn(to) {
    show(to);
    box.querySelector(".pager button:enabled").focus(); // the button that was pressed is gone
  }
  show(0);
}
