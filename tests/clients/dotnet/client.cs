// HttpClient. The contract is in tests/support/clients.py.

using System;
using System.IO;
using System.Net.Http;

static class Client
{
    static string Why(Exception error)
    {
        var own = error.GetType().Name + ": " + error.Message;
        return error.InnerException == null ? own : own + ", caused by " + Why(error.InnerException);
    }

    static string Quoted(string text)
    {
        var made = new System.Text.StringBuilder("\"");
        foreach (char c in text)
        {
            if (c == '"' || c == '\\' || c < ' ') made.AppendFormat("\\u{0:x4}", (int)c);
            else made.Append(c);
        }
        return made.Append('"').ToString();
    }

    static void Main()
    {
        var client = new HttpClient();
        for (string line; (line = Console.ReadLine()) != null;)
        {
            var words = line.Split(' ');
            string status = "null", text = "";
            try
            {
                for (int at = 2; at < words.Length; at++)
                {
                    var request = new HttpRequestMessage(new HttpMethod(words[1]), words[at]);
                    if (words[1] == "POST")
                        request.Content = new StreamContent(File.OpenRead(Environment.GetEnvironmentVariable("BODY")));
                    var answer = client.SendAsync(request).GetAwaiter().GetResult();
                    status = ((int)answer.StatusCode).ToString();
                    text = answer.Content.ReadAsStringAsync().GetAwaiter().GetResult();
                }
            }
            catch (Exception error)
            {
                status = "null";
                text = Why(error);
            }
            Console.WriteLine("{\"step\": \"" + words[0] + "\", \"status\": " + status + ", \"text\": " + Quoted(text) + "}");
        }
    }
}
