// Addresses in the notation of the mesh: `unix:PATH` or `tcp:HOST:PORT`.

package katamari.chassis;

import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ProtocolFamily;
import java.net.SocketAddress;
import java.net.StandardProtocolFamily;
import java.net.StandardSocketOptions;
import java.net.UnixDomainSocketAddress;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

final class Address {
  private static final Pattern TCP = Pattern.compile("tcp:(.*):(\\d{1,5})");
  private static final int BACKLOG = 128;

  private final ProtocolFamily family;
  private final SocketAddress socket;

  private Address(ProtocolFamily family, SocketAddress socket) {
    this.family = family;
    this.socket = socket;
  }

  /** @throws IllegalArgumentException for text that is no address; IOException for an unknown host */
  static Address parse(String text) throws IOException {
    if (text.startsWith("unix:"))
      return new Address(StandardProtocolFamily.UNIX, UnixDomainSocketAddress.of(text.substring("unix:".length())));
    Matcher found = TCP.matcher(text);
    if (!found.matches() || Integer.parseInt(found.group(2)) > 65_535)
      throw new IllegalArgumentException("\"" + text + "\" is not an address; expected unix:PATH or tcp:HOST:PORT");
    InetAddress host = InetAddress.getByName(found.group(1).replaceAll("[\\[\\]]", ""));
    ProtocolFamily family = host.getAddress().length == 4 ? StandardProtocolFamily.INET : StandardProtocolFamily.INET6;
    return new Address(family, new InetSocketAddress(host, Integer.parseInt(found.group(2))));
  }

  ServerSocketChannel listen() throws IOException {
    ServerSocketChannel listener = ServerSocketChannel.open(family);
    try {
      if (!isUnix()) listener.setOption(StandardSocketOptions.SO_REUSEADDR, true);
      return listener.bind(socket, BACKLOG);
    } catch (IOException | RuntimeException error) {
      listener.close();
      throw new IOException(
          "Cannot listen at " + textOf(socket) + ": " + error.getMessage() + ". Is another process there?", error);
    }
  }

  /** Returns a channel that does not block; it may still be connecting. */
  SocketChannel connect() throws IOException {
    SocketChannel channel = SocketChannel.open(family);
    try {
      channel.configureBlocking(false);
      withoutDelay(channel);
      channel.connect(socket);
      return channel;
    } catch (IOException | RuntimeException error) {
      channel.close();
      throw error;
    }
  }

  /** Each write is a complete message, so waiting for more data only adds latency. */
  static void withoutDelay(SocketChannel channel) throws IOException {
    if (channel.supportedOptions().contains(StandardSocketOptions.TCP_NODELAY))
      channel.setOption(StandardSocketOptions.TCP_NODELAY, true);
  }

  private boolean isUnix() {
    return family == StandardProtocolFamily.UNIX;
  }

  static String textOf(SocketAddress address) {
    if (!(address instanceof InetSocketAddress)) return "unix:" + address;
    InetSocketAddress inet = (InetSocketAddress) address;
    String host = inet.getAddress().getHostAddress();
    return "tcp:" + (host.contains(":") ? "[" + host + "]" : host) + ":" + inet.getPort();
  }
}
