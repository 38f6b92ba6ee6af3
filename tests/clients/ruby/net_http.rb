# Net::HTTP, one connection for each host. It follows no redirects by itself: this follows them as its manual shows.
# The contract is in tests/support/clients.py.

require "json"
require "net/http"
require "uri"

$stdout.sync = true
$connections = {}

def connection(uri)
  $connections[uri.host] ||= Net::HTTP.start(uri.host, uri.port, use_ssl: true)
end

def ask(method, url)
  uri = URI(url)
  request = method == "POST" ? Net::HTTP::Post.new(uri) : Net::HTTP::Get.new(uri)
  if method == "POST"
    body = File.open(ENV["BODY"], "rb")
    request.body_stream = body
    request.content_length = body.size
    request.content_type = "application/octet-stream"
  end
  answer = connection(uri).request(request)
  answer.is_a?(Net::HTTPRedirection) ? ask(method, answer["location"]) : [answer.code.to_i, answer.body]
end

$stdin.each_line do |line|
  step, method, *urls = line.split
  begin
    status, text = urls.map { |url| ask(method, url) }.last
  rescue StandardError => error
    status, text = nil, "#{error.class}: #{error.message}"
  end
  puts JSON.generate("step" => step, "status" => status, "text" => text)
end
