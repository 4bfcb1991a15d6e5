/** The playground: ask the limiter, and see the window that it decides by. */
export default function PlaygroundPage(): React.JSX.Element {
  return <h1>Playground</h1>;
}
