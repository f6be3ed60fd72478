// Which keys a figure takes while it has the focus, and which it leaves to its controls and the page.

/** Return what answers to keys: with the figure's own action, or none where a control needs the key.
 *
 * Keys that mean something here are kept from JupyterLab's shortcuts; all others reach it.
 */
export function keyHandler(actions) {
  return (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.defaultPrevented) return;
    const isTheirs = isForControl(event);
    const action = isTheirs ? undefined : actions()[event.key];
    if (!isTheirs && !action) return;
    event.stopPropagation();
    if (!action) return;
    event.preventDefault();
    action();
  };
}

const SLIDER_KEYS = ["PageUp", "PageDown", "Home", "End"];

/** Say whether the control that has the focus needs a key. */
function isForControl({ target, key }) {
  if (target.closest("button")) return [" ", "Enter"].includes(key);
  if (target.closest("select")) return key !== "Escape"; // letters choose too
  if (target.closest("[type=checkbox]")) return key === " ";
  const slider = target.closest("[type=range]");
  if (!slider) return false;
  // The other keys of a film's bar are those of its figure, which steps as the bar would.
  if (slider.matches(".bar-scrubber")) return ["ArrowUp", "ArrowDown"].includes(key);
  return key.startsWith("Arrow") || SLIDER_KEYS.includes(key);
}
