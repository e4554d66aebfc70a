// Titles of the steps.

const SIZES = { small: "small blemishes", medium: "medium blemishes", large: "large blemishes", rest: "the rest" };
const TITLES = {
  strength: ({ value }) => `Strength ${Math.round(100 * value)} %`,
  face: ({ face, on }) => `Face ${face + 1} ${on ? "on" : "off"}`,
  add_face: () => "Face framed",
  size: ({ size, on }) => `${on ? "Remove" : "Bring back"} ${SIZES[size]}`,
  blemish: ({ on }) => (on ? "Blemish removed" : "Blemish brought back"),
  protect: () => "Protected",
  restore: () => "Protection taken back",
};

export const stepTitle = (step) => TITLES[step.step](step);
