// Makes and changes nodes. Text from Python is set as text or as an attribute, never as markup.

const SVG_NAMESPACE = "http://www.w3.org/2000/svg";

/** Return a new SVG element. */
export function svg(name, attributes = {}, children = []) {
  const node = document.createElementNS(SVG_NAMESPACE, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

/** Return a new HTML element; `properties` are those of the object, such as `className`. */
export function html(name, properties = {}, children = []) {
  const node = Object.assign(document.createElement(name), properties);
  node.append(...children);
  return node;
}

/** Set an attribute if it has another value, or remove it where the value is null. */
export function setAttribute(node, name, value) {
  if (value === null) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

/** Set what a node says if it says something else: the same text anew would be laid out anew. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}
