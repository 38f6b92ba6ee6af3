// java.net.http.HttpClient, or HttpURLConnection when the first argument says so. The contract is in
// tests/support/clients.py.

import java.io.BufferedReader;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.net.HttpURLConnection;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;

public class Client {
  record Answer(Integer status, String text) {}

  interface Asker {
    Answer ask(String method, String url) throws Exception;
  }

  static final Path BODY = Path.of(System.getenv("BODY"));

  // It follows redirects only when told to.
  static Asker modern() {
    HttpClient client = HttpClient.newBuilder().followRedirects(HttpClient.Redirect.NORMAL).build();
    return (method, url) -> {
      var body = method.equals("POST") ? HttpRequest.BodyPublishers.ofFile(BODY) : HttpRequest.BodyPublishers.noBody();
      var request = HttpRequest.newBuilder(URI.create(url)).method(method, body).build();
      var response = client.send(request, HttpResponse.BodyHandlers.ofString());
      return new Answer(response.statusCode(), response.body());
    };
  }

  static Answer old(String method, String url) throws Exception {
    var connection = (HttpURLConnection) URI.create(url).toURL().openConnection();
    connection.setRequestMethod(method);
    if (method.equals("POST")) {
      connection.setDoOutput(true);
      connection.setFixedLengthStreamingMode(Files.size(BODY));
      try (OutputStream out = connection.getOutputStream()) {
        Files.copy(BODY, out);
      }
    }
    int status = connection.getResponseCode();
    try (InputStream in = status < 400 ? connection.getInputStream() : connection.getErrorStream()) {
      return new Answer(status, new String(in.readAllBytes(), StandardCharsets.UTF_8));
    }
  }

  static String why(Throwable error) {
    return error + (error.getCause() == null ? "" : ", caused by " + why(error.getCause()));
  }

  static String quoted(String text) {
    var made = new StringBuilder("\"");
    for (char c : text.toCharArray()) {
      if (c == '"' || c == '\\' || c < ' ') made.append(String.format("\\u%04x", (int) c));
      else made.append(c);
    }
    return made.append('"').toString();
  }

  public static void main(String[] arguments) throws Exception {
    Asker asker = arguments[0].equals("HttpURLConnection") ? Client::old : modern();
    var lines = new BufferedReader(new InputStreamReader(System.in));
    for (String line; (line = lines.readLine()) != null;) {
      String[] words = line.split(" ");
      Answer answer = null;
      try {
        for (int at = 2; at < words.length; at++) answer = asker.ask(words[1], words[at]);
      } catch (Exception error) {
        answer = new Answer(null, why(error));
      }
      System.out.printf("{\"step\": \"%s\", \"status\": %s, \"text\": %s}%n", words[0], answer.status(),
          quoted(answer.text()));
    }
  }
}
