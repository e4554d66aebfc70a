// Titles of the steps.

const SIZES = { small: "small places", medium: "medium places", large: "large places", rest: "the rest" };
const TITLES = {
  strength: ({ value }) => `Strength ${Math.round(100 * value)} %`,
  network: ({ name }, { networks }) => `Network ${networks.find((network) => network.name === name).title}`,
  region: ({ value }) => (value === "photo" ? "Whole photo" : "Faces only"),
  face: ({ face, on }) => `Face ${face + 1} ${on ? "on" : "off"}`,
  add_face: () => "Face framed",
  size: ({ size, on }) => `${on ? "Change" : "Bring back"} ${SIZES[size]}`,
  blemish: (step, { places }) => `${placeTitle(step, places)} ${step.on ? "changed again" : "brought back"}`,
  protect: () => "Protected",
  restore: () => "Protection taken back",
};

// Size and number of the place that a step names.
function placeTitle({ at }, places) {
  const index = places.findIndex((place) => String(place.at) === String(at));
  if (index < 0) return "Place"; // its face is off, or it is of another network
  const { size } = places[index];
  return `${size[0].toUpperCase()}${size.slice(1)} place ${index + 1}`;
}

// context: networks, and places: connected parts of the change, in the order of their numbers
export const stepTitle = (step, context) => TITLES[step.step](step, context);
