// Players that move together: those of one page with the same link.
//
//   linkFilms(name, onMove) -> { tell(index), destroy() };   onMove(index): another one has moved
//
// Every widget loads an instance of this module of its own, so they talk through the page.

const MOVED = "course-figure-moved";

export function linkFilms(name, onMove) {
  const self = {};
  const listen = ({ detail }) => {
    if (name && detail.name === name && detail.from !== self) onMove(detail.index);
  };
  document.addEventListener(MOVED, listen);
  return {
    tell(index) {
      const detail = { name, index, from: self };
      if (name) document.dispatchEvent(new CustomEvent(MOVED, { detail }));
    },
    destroy: () => document.removeEventListener(MOVED, listen),
  };
}
