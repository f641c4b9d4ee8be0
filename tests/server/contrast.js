// Contrast of every visible text and placeholder with what is behind it, as WCAG 2.2 has it; transparent colours are mixed.
// Returns [number of texts, [[contrast, text] of those below 4.5]].
() => {
  const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 });
  const brush = canvas.getContext("2d", { willReadFrequently: true });

  function mixed(colors) {
    brush.clearRect(0, 0, 1, 1);
    for (const color of colors) {
      brush.fillStyle = color;
      brush.fillRect(0, 0, 1, 1);
    }
    return [...brush.getImageData(0, 0, 1, 1).data].slice(0, 3);
  }

  function luminance(colors) {
    const linear = (value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
    const [red, green, blue] = mixed(colors).map((value) => linear(value / 255));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  }

  function contrast(element, color) {
    const behind = [];
    for (let each = element; each; each = each.parentElement) behind.unshift(getComputedStyle(each).backgroundColor);
    const [high, low] = [luminance([...behind, color]), luminance(behind)].sort((a, b) => b - a);
    return (high + 0.05) / (low + 0.05);
  }

  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = walker.nextNode()); ) {
    const element = node.parentElement;
    if (!node.data.trim() || !element.checkVisibility() || element.closest(".unseen, option")) continue;
    found.push([contrast(element, getComputedStyle(element).color), node.data.trim()]);
  }
  for (const field of document.querySelectorAll("input, textarea, select")) {
    if (!field.checkVisibility()) continue;
    found.push([contrast(field, getComputedStyle(field).color), `#${field.id}`]);
    found.push([contrast(field, getComputedStyle(field, "::placeholder").color), `placeholder of #${field.id}`]);
  }
  return [found.length, found.filter(([value]) => value < 4.5)];
}
