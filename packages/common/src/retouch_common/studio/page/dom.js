// Elements of the page.

export const byId = (id) => document.getElementById(id);

export function create(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

// Give a list this many children; those there are stay, and with them the focus. build(index): another one
export function resizeList(list, count, build) {
  while (list.children.length > count) list.lastElementChild.remove();
  while (list.children.length < count) list.append(build(list.children.length));
}
