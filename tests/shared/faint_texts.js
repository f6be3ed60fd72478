// Returns the texts of our reports, figures and quizzes whose contrast with their ground is less than
// `least`, as WCAG 2 defines contrast.
(least) => {
  // Chromium gives computed colours as rgb(a) with 0..255 or as color(srgb ...) with 0..1.
  const parse = (text) => {
    const [r, g, b, alpha = 1] = text.match(/[\d.]+(e-?\d+)?/g).map(Number);
    const unit = text.startsWith("color(") ? 1 : 255;
    return { rgb: [r / unit, g / unit, b / unit], alpha };
  };
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const groundBehind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour.alpha > 0.99) return colour.rgb;
    }
    return [1, 1, 1];
  };
  const coloursOf = (node) => {
    const style = getComputedStyle(node);
    if (node.tagName !== "text") return [parse(style.color).rgb, groundBehind(node)];
    // A label has a halo in the colour of its box; any other text stands on the page.
    const ground = style.stroke === "none" ? groundBehind(node) : parse(style.stroke).rgb;
    return [parse(style.fill).rgb, ground];
  };
  const hasOwnText = (node) =>
    [...node.childNodes].some((child) => child.nodeType === Node.TEXT_NODE && child.data.trim());
  const roots = document.querySelectorAll(".course-check, .scene-root, .quiz");
  const faint = [];
  for (const node of [...roots].flatMap((root) => [...root.querySelectorAll("*")])) {
    if (!hasOwnText(node) || node.tagName === "title" || node.closest("[hidden]")) continue;
    const [bright, dark] = coloursOf(node).map(luminance).sort((a, b) => b - a);
    const contrast = (bright + 0.05) / (dark + 0.05);
    if (contrast < least) faint.push(`${node.textContent.trim()}: ${contrast.toFixed(1)}`);
  }
  return [...new Set(faint)];
}
